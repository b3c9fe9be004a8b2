//! The site's operations, told as stories over its public interface.

mod audit;
mod bulk_tokens;
mod devices;
mod key_ring;
mod policies;
mod publishing;
mod registrations;
mod reports;
mod secrets;
mod support;
