//! The site's own token, and the clock that it is judged by.

use super::*;
use crate::status::Status;

#[tokio::test]
async fn a_device_whose_self_prove_token_has_ended_comes_back_by_its_key() {
    let clock = Clock::manual(NOW);
    let site = FakeSite::start(&clock);
    let mut device = device(setup(&site), ProofSetup::default(), &clock);
    bulk(&mut device, &clock);
    device.register().await.unwrap();
    device.confirm().await.unwrap();
    // The token on the command line was never kept.
    device.bulk = None;
    site.take_seen();
    clock.advance(Duration::from_hours(24 * 120));
    device.policy().await.unwrap();
    let seen: Vec<_> = site.take_seen().into_iter().map(|seen| (seen.target, seen.token)).collect();
    let request = "/ccm_system_tokenauth/request".to_owned();
    assert_eq!(
        seen[..4],
        [
            ("/CCM_STS".to_owned(), Some(TokenClass::SelfProve)),
            (request.clone(), Some(TokenClass::PreAuth)),
            ("/CCM_STS".to_owned(), Some(TokenClass::SelfProve)),
            (request, Some(TokenClass::Device)),
        ]
    );
    assert!(device.state().self_prove.as_ref().unwrap().expires > device.now());
    assert_eq!(device.client_id(), Some(fixture_client_id()));
}

#[tokio::test]
async fn a_wrong_clock_is_corrected_by_signed_answers_and_told() {
    let (site_clock, slow) = (Clock::manual(NOW), Clock::manual(NOW - 9 * 60_000_000));
    let site = FakeSite::start(&site_clock);
    let mut device = device(setup(&site), ProofSetup::default(), &slow);
    bulk(&mut device, &site_clock);
    device.register().await.unwrap();
    device.confirm().await.unwrap();
    assert_eq!(device.now().seconds(), site_clock.now_seconds());
    assert_eq!(device.state().credentials.clock_offset / 60_000_000, 9);
    let status = Status::of(device.state(), &key_of(&device), device.now()).to_string();
    assert!(status.contains("this device's clock is 9 minutes slow"), "{status}");
    // Somebody on the way cannot set it.
    site.site().fault = crate::testing::Fault::OtherSite;
    site_clock.advance(Duration::from_hours(24 * 365));
    device.heartbeat().await.unwrap_err();
    assert_eq!(device.state().credentials.clock_offset / 60_000_000, 9);
    site.site().fault = crate::testing::Fault::None;
    // Set right again: the offset goes.
    site_clock.set(NOW);
    slow.set(NOW);
    device.heartbeat().await.unwrap();
    assert_eq!(device.state().credentials.clock_offset / 60_000_000, 0);
}
