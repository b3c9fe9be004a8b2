//! stub
use crate::machine::Machine;
use crate::support::Lab;

pub(crate) struct Facts<'s> {
    pub(crate) lab: &'s Lab,
    pub(crate) machines: Vec<&'s Machine>,
    pub(crate) device_ids: Vec<String>,
    pub(crate) tenant: String,
    pub(crate) client_app: String,
    pub(crate) entra_device: String,
    pub(crate) user: String,
    pub(crate) hybrid: (String, String),
}

pub(crate) fn check(_facts: &Facts<'_>) {}
