//! The site's operations, told as stories over its public interface.

mod approvals;
mod audit;
mod blocks;
mod bulk_tokens;
mod collections;
mod copies;
mod devices;
mod key_ring;
mod lab_pki;
mod methods;
mod policies;
mod publishing;
mod rates;
mod recovery;
mod registrations;
mod reports;
mod secrets;
mod settings;
mod support;
mod tenants;
mod trust;
mod users;
