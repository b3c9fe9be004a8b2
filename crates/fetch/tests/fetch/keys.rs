//! Keys of tenants, from the stand-in.

use std::time::Duration;

use proto::entra::{EntraError, EntraSubject};
use proto::id::Guid;
use stand_in::{Config, DeviceSeed, Fault, Part, StandIn, TenantConfig};

use crate::support::{Fetching, onboarding, operator, run_stand_in, wait_for};

const ONE: Guid = Guid::from_bytes([0x11; 16]);
const OTHER: Guid = Guid::from_bytes([0x12; 16]);
const DEVICE: Guid = Guid::from_bytes([0x22; 16]);

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_is_fetched_when_somebody_meets_it_and_by_the_clock() {
    let fetching = Fetching::new().await;
    let tenants = vec![TenantConfig::new(ONE, "Contoso")];
    let bound =
        StandIn::bind(Config { tenants: tenants.clone(), ..Config::default() }, fetching.clock.clone());
    let bound = bound.unwrap();
    let control = bound.control();
    fetching.site.add_tenant(&operator(), onboarding(&bound, &tenants[0])).await.unwrap();
    let _stand_in = run_stand_in(bound);
    fetching.run();
    let device = DeviceSeed::joined(DEVICE, "PC1", b"");
    let verify = async |token: &str| fetching.site.tenant_set().verify(token).ok();

    let first = control.device_token(ONE, &device).unwrap();
    let token = wait_for("keys of a new tenant", async || verify(&first).await).await;
    assert_eq!(token.subject, EntraSubject::Device { device: DEVICE });
    // Both forms of its issuer were learnt from its two documents.
    assert_eq!(fetching.tenant(ONE).await.issuers.len(), 2);

    control.replace_keys(ONE).unwrap();
    let second = control.device_token(ONE, &device).unwrap();
    let unknown = fetching.site.tenant_set().verify(&second);
    assert!(matches!(unknown, Err(EntraError::UnknownKey { tenant: ONE, .. })), "{unknown:?}");
    // The new tenant's own first fetch was such a wish, and one in thirty seconds is granted.
    fetching.clock.advance(Duration::from_secs(31));
    fetching.site.want_keys(ONE);
    wait_for("a key that somebody met", async || verify(&second).await).await;
    assert!(verify(&first).await.is_none(), "its key was dropped by the provider");

    control.replace_keys(ONE).unwrap();
    let third = control.device_token(ONE, &device).unwrap();
    fetching.clock.advance(Duration::from_mins(18));
    wait_for("a key by the clock", async || verify(&third).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_hangs_holds_up_no_other() {
    let fetching = Fetching::new().await;
    let tenant = |id, name| Config { tenants: vec![TenantConfig::new(id, name)], ..Config::default() };
    let one = StandIn::bind(tenant(ONE, "Contoso"), fetching.clock.clone()).unwrap();
    let other = StandIn::bind(tenant(OTHER, "Fabrikam"), fetching.clock.clone()).unwrap();
    one.control().fail(Part::Everything, Fault::Hang);
    for (bound, id, name) in [(&one, ONE, "Contoso"), (&other, OTHER, "Fabrikam")] {
        let new = onboarding(bound, &TenantConfig::new(id, name));
        fetching.site.add_tenant(&operator(), new).await.unwrap();
    }
    let (_one, control, _other) = (one.control(), other.control(), run_stand_in(other));
    let hanging = one.control();
    let _one_runs = run_stand_in(one);
    fetching.run();
    let fetched = async || fetching.tenant(OTHER).await.keys_fetched_at.filter(|at| *at == fetching.now());
    wait_for("a question that hangs", async || (hanging.counts().discovery > 0).then_some(())).await;
    wait_for("keys of the other", fetched).await;
    assert_eq!(fetching.tenant(ONE).await.keys, 0);
    // Again, while the first one still hangs or has failed.
    control.rotate_keys(OTHER).unwrap();
    fetching.clock.advance(Duration::from_mins(20));
    wait_for("keys of the other once more", fetched).await;
    let problem = wait_for("the problem", async || fetching.tenant(ONE).await.keys_problem).await;
    assert!(problem.contains("did not answer within 10 seconds"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_of_another_name_or_another_authority_is_not_believed() {
    let fetching = Fetching::new().await;
    let tenants = vec![TenantConfig::new(ONE, "Contoso"), TenantConfig::new(OTHER, "Fabrikam")];
    let bound =
        StandIn::bind(Config { tenants: tenants.clone(), ..Config::default() }, fetching.clock.clone());
    let bound = bound.unwrap();
    let mut named = onboarding(&bound, &tenants[0]);
    named.issuers = vec!["https://sts.windows.net/somebody/".to_owned()];
    fetching.site.add_tenant(&operator(), named).await.unwrap();
    let mut unknown_ca = onboarding(&bound, &tenants[1]);
    unknown_ca.ca_pem = Some(stand_in::Ca::make("Another CA").unwrap().certificate);
    fetching.site.add_tenant(&operator(), unknown_ca).await.unwrap();
    let _stand_in = run_stand_in(bound);
    fetching.run();
    let problem = wait_for("the refused issuer", async || fetching.tenant(ONE).await.keys_problem).await;
    assert!(problem.contains("none such is accepted"), "{problem}");
    let problem =
        wait_for("the refused certificate", async || fetching.tenant(OTHER).await.keys_problem).await;
    assert!(problem.contains("certificate"), "{problem}");
    assert_eq!((fetching.tenant(ONE).await.keys, fetching.tenant(OTHER).await.keys), (0, 0));
}
