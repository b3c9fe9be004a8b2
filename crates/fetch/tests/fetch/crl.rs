//! Revocation lists from small web servers, some of which misbehave.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse as _, Redirect};
use axum::routing::get;
use fetch::FetchError;
use fetch::Proxies;
use fetch::crl::{CrlFetchError, TIME, fetch};
use proto::limits::CRL_BYTES;
use proto::pki::TrustedCa;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint, DnType, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use runtime::Clock;

use crate::support::{Fetching, operator, serve_plain, wait_for};

/// An authority with a list.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
    certificate: Vec<u8>,
}

impl Authority {
    fn params(name: &str, crl_url: Option<&str>) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        let uris = crl_url.into_iter().map(str::to_owned).collect::<Vec<_>>();
        params.crl_distribution_points =
            if uris.is_empty() { Vec::new() } else { vec![CrlDistributionPoint { uris }] };
        params
    }

    fn root(name: &str) -> Self {
        let (params, key) = (Self::params(name, None), KeyPair::generate().unwrap());
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        Self { params, key, certificate }
    }

    /// An intermediate whose certificate names where this one's list is.
    fn intermediate(&self, name: &str, crl_url: &str) -> Self {
        let (params, key) = (Self::params(name, Some(crl_url)), KeyPair::generate().unwrap());
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).unwrap().der().to_vec();
        Self { params, key, certificate }
    }

    fn list(&self, number: u64, now: i64, life: Duration) -> Vec<u8> {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let at = |seconds: i64| epoch + Duration::from_secs(u64::try_from(seconds).unwrap());
        let life = i64::try_from(life.as_secs()).unwrap();
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(number),
            revocation_time: at(now - 60),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: at(now - 60),
            next_update: at(now + life),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let issuer = Issuer::from_params(&self.params, &self.key);
        params.signed_by(&issuer).unwrap().der().to_vec()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_plain_answer_with_a_list_counts() {
    let followed = Arc::new(AtomicU64::new(0));
    let elsewhere = Arc::clone(&followed);
    let routes = Router::new()
        .route("/good.crl", get(|| async { b"0\x82list".to_vec() }))
        .route("/page.crl", get(|| async { Html("<html>not found, but 200</html>") }))
        .route("/hidden-page.crl", get(|| async { "\n <!doctype html>" }))
        .route("/moved.crl", get(|| async { Redirect::temporary("/elsewhere") }))
        .route(
            "/elsewhere",
            get(move || async move {
                elsewhere.fetch_add(1, Ordering::SeqCst);
                "list"
            }),
        )
        .route("/announced.crl", get(|| async { vec![0; CRL_BYTES + 1] }))
        .route("/endless.crl", get(endless))
        .route("/hang.crl", get(std::future::pending::<()>));
    let server = serve_plain(routes).await;
    let clock = Clock::system();
    let ask = async |path: &str, time: Duration| {
        fetch(&clock, Proxies::None, &format!("http://{}{path}", server.address), time).await
    };

    assert_eq!(&ask("/good.crl", TIME).await.unwrap()[..], b"0\x82list");
    let missing = ask("/missing.crl", TIME).await;
    let not_found = |error: &CrlFetchError| {
        matches!(error, CrlFetchError::Fetch(FetchError::Status { status: StatusCode::NOT_FOUND, .. }))
    };
    assert!(missing.as_ref().is_err_and(not_found), "{missing:?}");
    for page in ["/page.crl", "/hidden-page.crl"] {
        assert!(matches!(ask(page, TIME).await, Err(CrlFetchError::Page)), "{page}");
    }
    let moved = ask("/moved.crl", TIME).await;
    assert!(matches!(moved, Err(CrlFetchError::Fetch(FetchError::Redirect { .. }))), "{moved:?}");
    assert_eq!(followed.load(Ordering::SeqCst), 0);
    for large in ["/announced.crl", "/endless.crl"] {
        let answer = ask(large, TIME).await;
        let is_large =
            matches!(answer, Err(CrlFetchError::Fetch(FetchError::TooLarge { limit: CRL_BYTES, .. })));
        assert!(is_large, "{large}");
    }
    let slow = ask("/hang.crl", Duration::from_millis(100)).await;
    assert!(matches!(slow, Err(CrlFetchError::Fetch(FetchError::TimedOut { .. }))), "{slow:?}");
    for wrong in ["ldap:///CN=CA?certificateRevocationList", "file:///etc/passwd", "ftp://h/ca.crl"] {
        let refused = fetch(&clock, Proxies::None, wrong, TIME).await;
        assert!(matches!(refused, Err(CrlFetchError::Fetch(FetchError::Address(_)))), "{wrong}: {refused:?}");
    }
}

/// A body without a stated length and without an end.
async fn endless() -> axum::response::Response {
    let pieces = futures_util::stream::repeat_with(|| {
        Ok::<_, std::io::Error>(bytes::Bytes::from(vec![b'0'; 1 << 20]))
    });
    ([(header::CONTENT_TYPE, "application/pkix-crl")], Body::from_stream(pieces)).into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_fetches_the_lists_of_its_authorities_and_renews_them_in_time() {
    let fetching = Fetching::new().await;
    let root = Authority::root("Test Root");
    // What is served changes as time passes; every request is counted.
    let served = Arc::new(std::sync::Mutex::new(Vec::new()));
    let asked = Arc::new(AtomicU64::new(0));
    let (body, count) = (Arc::clone(&served), Arc::clone(&asked));
    let routes = Router::new().route(
        "/root.crl",
        get(move || async move {
            count.fetch_add(1, Ordering::SeqCst);
            body.lock().unwrap().clone()
        }),
    );
    let server = serve_plain(routes).await;
    let url = format!("http://{}/root.crl", server.address);
    let intermediate = root.intermediate("Test Issuing", &url);
    let now = || fetching.now().seconds();
    *served.lock().unwrap() = root.list(1, now(), Duration::from_hours(10));

    let authorities = vec![
        TrustedCa { der: root.certificate.clone(), root: true },
        TrustedCa { der: intermediate.certificate.clone(), root: false },
    ];
    fetching.site.add_trust(&operator(), authorities).await.unwrap();
    fetching.run();
    let list = async || {
        let authorities = fetching.site.list_trust().await.unwrap();
        authorities.into_iter().find(|authority| authority.root).unwrap().crl
    };
    let number = async |expected: &str| {
        let found = async || list().await.filter(|list| list.number.trim_start_matches('0') == expected);
        wait_for(&format!("list number {expected}"), found).await
    };
    let first = number("1").await;
    assert_eq!((first.entries, first.source.as_str(), first.problem), (1, url.as_str(), None));
    let source = fetching.site.list_crl_sources().await.unwrap();
    assert_eq!(source.iter().filter(|source| !source.urls.is_empty()).count(), 1, "{source:?}");

    // Half of ten hours: not after four, surely after five.
    *served.lock().unwrap() = root.list(2, now(), Duration::from_hours(10));
    fetching.clock.advance(Duration::from_hours(4));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    fetching.clock.advance(Duration::from_hours(1));
    number("2").await;

    // A page instead of a list: the list in force stays, the problem is told, and it heals.
    *served.lock().unwrap() = b"<html>maintenance</html>".to_vec();
    fetching.clock.advance(Duration::from_hours(5));
    // The site tells by itself that the list in force has ended; what the fetch met comes after.
    let met = async || list().await?.problem.filter(|problem| problem.contains("a web page"));
    let problem = wait_for("the page in the problem", met).await;
    assert!(problem.contains(&url), "{problem}");
    assert_eq!(list().await.unwrap().number.trim_start_matches('0'), "2");
    *served.lock().unwrap() = root.list(3, now(), Duration::from_hours(10));
    fetching.clock.advance(Duration::from_hours(1));
    assert_eq!(number("3").await.problem, None);

    // An older list is refused by the site, and the newer one stays (R6).
    *served.lock().unwrap() = root.list(1, now(), Duration::from_hours(10));
    fetching.clock.advance(Duration::from_hours(5));
    wait_for("the refused old list", async || list().await?.problem).await;
    assert_eq!(list().await.unwrap().number.trim_start_matches('0'), "3");
}
