//! Revocation of the gateway's certificate.

use super::*;
use crate::credential::revocation::CrlCheck;
use crate::failure::{CallError, TlsFault};
use crate::policy::PolicyError;
use crate::state::Approval;
use crate::testing::gateway_with_list;

/// A distribution point that serves one list, or nothing.
fn distribution_point(list: Arc<std::sync::Mutex<Option<Vec<u8>>>>) -> String {
    use http_body_util::Full;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    let listener = runtime::listen::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(runtime::listen::serve_plain(
        listener,
        runtime::listen::AcceptOptions::new(10),
        Drain::new(),
        move |stream, _| {
            let list = Arc::clone(&list);
            async move {
                let service = service_fn(move |_: Request<hyper::body::Incoming>| {
                    let list = list.lock().unwrap().clone();
                    async move {
                        let mut answer =
                            Response::new(Full::new(bytes::Bytes::from(list.clone().unwrap_or_default())));
                        if list.is_none() {
                            *answer.status_mut() = hyper::StatusCode::NOT_FOUND;
                        }
                        Ok::<_, std::convert::Infallible>(answer)
                    }
                });
                let _ = runtime::http::serve(
                    stream,
                    &runtime::http::HttpOptions::default(),
                    &Drain::new(),
                    service,
                )
                .await;
            }
        },
    ));
    format!("http://127.0.0.1:{}/issuing.crl", address.port())
}

#[tokio::test]
async fn a_gateways_certificate_is_checked_for_revocation_before_anything_is_sent() {
    let clock = Clock::manual(NOW);
    let pki = Pki::new("Gateway Root");
    for (revoked, expected) in [(&[][..], true), (&[7][..], false)] {
        let list = Arc::new(std::sync::Mutex::new(Some(pki.crl(revoked, 1))));
        let address = distribution_point(list);
        let site = FakeSite::start_with(&clock, pki.root_pem(), gateway_with_list(&pki, &address));
        let mut device = device(setup(&site), ProofSetup::default(), &clock);
        bulk(&mut device, &clock);
        let result = device.register().await;
        if expected {
            result.unwrap();
            assert!(device.state().credentials.unchecked_servers.is_empty());
        } else {
            let error = result.unwrap_err();
            let Some(CallError::Tls { fault, .. }) = error.call() else { panic!("{error:?}") };
            assert_eq!(*fault, TlsFault::Revoked);
            assert!(site.take_seen().is_empty());
        }
    }
}

#[tokio::test]
async fn a_list_that_cannot_be_had_is_a_warning_or_an_end_as_the_site_settled() {
    let clock = Clock::manual(NOW);
    let pki = Pki::new("Gateway Root");
    let list = Arc::new(std::sync::Mutex::new(None));
    let address = distribution_point(Arc::clone(&list));
    let site = FakeSite::start_with(&clock, pki.root_pem(), gateway_with_list(&pki, &address));
    let mut device = device(setup(&site), ProofSetup { no_crl_check: true, ..ProofSetup::default() }, &clock);
    bulk(&mut device, &clock);
    device.register().await.unwrap();
    device.confirm().await.unwrap();
    assert_eq!(device.revocation_check(), CrlCheck::Off);
    assert!(device.state().credentials.unchecked_servers.is_empty());

    // The first settings end the bootstrap; the device does not fall silent.
    device.state_mut().policy.settings.version = Some("1.00".into());
    let reopened = |device: &Device| {
        let options = DeviceOptions {
            state: device.state().clone(),
            key: KeyMaterial {
                pkcs8: zeroize::Zeroizing::new(device.identity().pkcs8().to_vec()),
                certificate: device.identity().certificate().to_vec(),
            },
            store: Arc::new(MemoryStore::default()),
            clock: clock.clone(),
            system_roots: false,
        };
        Device::new(options).unwrap()
    };
    let mut soft = reopened(&device);
    soft.heartbeat().await.unwrap();
    let warning = soft.state().credentials.unchecked_servers[0].clone();
    assert!(warning.host == "localhost" && warning.text.contains("404"), "{warning:?}");
    let report = site.site().reports.pop().unwrap();
    let ours = report.instance("Roamgate_Client").unwrap();
    assert_eq!(ours.value("ServerRevocationCheck"), Some("soft"));

    device.state_mut().policy.settings.revocation_check = Some(CrlCheck::Hard);
    let mut hard = reopened(&device);
    let error = hard.policy().await.unwrap_err();
    let PolicyError::Request(told) = &error else { panic!("{error:?}") };
    let Some(CallError::Tls { fault, .. }) = told.call() else { panic!("{told:?}") };
    assert_eq!(*fault, TlsFault::RevocationUnknown);
    *list.lock().unwrap() = Some(pki.crl(&[], 2));
    clock.advance(Duration::from_mins(31));
    hard.policy().await.unwrap();
    assert_eq!(hard.state().registration.unwrap().approval, Approval::Approved);
}
