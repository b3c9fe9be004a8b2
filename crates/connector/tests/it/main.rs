//! A connection point between a site, gateways and roles that are all made here.

mod admin;
mod bundle;
mod forwarding;
mod gateway;
mod https_role;
mod links;
mod logs;
mod pki;
mod publications;
mod role;
mod scene;
mod site;
mod timeouts;
