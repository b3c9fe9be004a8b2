//! All drivers together.

use runtime::{Clock, Drain};
use site::Site;

use crate::config::Config;
use crate::{crl_driver, key_driver, sync_driver};

/// Fetches for the site what is due, until the drain begins. What is under way then is dropped and
/// will be due again.
///
/// `clock` is the site's: it decides what is due and judges certificates of servers. The looks at
/// it are a second or a few apart, so that a clock that was moved is followed.
pub async fn run(site: Site, config: Config, clock: Clock, drain: Drain) {
    tokio::join!(
        key_driver::run(&site, &config, &clock, &drain),
        sync_driver::run(&site, &config, &clock, &drain),
        crl_driver::run(&site, &config, &clock, &drain),
    );
}
