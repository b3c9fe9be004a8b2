//! Users and devices of a tenant, from the stand-in.

use std::time::Duration;

use fetch::graph::{Entry, GraphClient, GraphError, GraphSource};
use fetch::{Outbound, Proxies};
use proto::id::Guid;
use secrecy::SecretString;
use site::{SyncSource, SyncState, User, UserFilter};
use stand_in::{Bound, Config, Control, DeviceSeed, Fault, Part, StandIn, TenantConfig, UserSeed};
use zeroize::Zeroizing;

use crate::support::{Fetching, Running, onboarding, operator, run_stand_in, wait_for};

const TENANT: Guid = Guid::from_bytes([0x41; 16]);
const SOURCE: SyncSource = SyncSource::Tenant(TENANT);

fn id(number: u16) -> Guid {
    let mut bytes = [0x55; 16];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    Guid::from_bytes(bytes)
}

fn user(number: u16) -> UserSeed {
    UserSeed::cloud(id(number), &format!("user{number}@contoso.example"), &format!("User {number}"))
        .with_sid(&format!("S-1-5-21-1-2-3-{number}"))
}

fn tenant(users: u16) -> TenantConfig {
    let mut tenant = TenantConfig::new(TENANT, "Contoso");
    tenant.users = (0..users).map(user).collect();
    tenant.devices = (0..3).map(|n| DeviceSeed::joined(id(9_000 + n), &format!("PC{n}"), b"")).collect();
    tenant
}

/// A site that discovers the users of a stand-in.
struct Lab {
    fetching: Fetching,
    control: Control,
    _stand_in: Running,
}

impl Lab {
    async fn start(tenant: TenantConfig, change: impl FnOnce(&Control)) -> Self {
        let fetching = Fetching::new().await;
        let bound = bind(&fetching, tenant.clone());
        let control = bound.control();
        fetching.site.add_tenant(&operator(), onboarding(&bound, &tenant)).await.unwrap();
        change(&control);
        let stand_in = run_stand_in(bound);
        fetching.run();
        Self { fetching, control, _stand_in: stand_in }
    }

    async fn state(&self) -> SyncState {
        self.fetching.tenant(TENANT).await.sync
    }

    async fn done(&self) -> SyncState {
        let now = self.fetching.now();
        let done = async || {
            let state = self.state().await;
            (state.full_at.max(state.delta_at) == Some(now) && state.running_since.is_none()).then_some(state)
        };
        wait_for("a finished discovery", done).await
    }

    async fn problem(&self) -> SyncState {
        wait_for("a failed discovery", async || {
            Some(self.state().await).filter(|state| state.problem.is_some())
        })
        .await
    }

    /// Lets time pass and an operator ask for a delta.
    async fn again(&self) {
        self.fetching.clock.advance(Duration::from_mins(10));
        self.fetching.site.want_sync(SOURCE, false).await.unwrap();
    }

    async fn find(&self, text: &str) -> Option<User> {
        self.fetching.site.find_user(text).await.unwrap().filter(|user| user.entra.is_some())
    }

    async fn users(&self) -> usize {
        self.fetching.site.list_users(UserFilter::default()).await.unwrap().len()
    }
}

fn bind(fetching: &Fetching, tenant: TenantConfig) -> Bound {
    let config = Config { tenants: vec![tenant], ..Config::default() };
    StandIn::bind(config, fetching.clock.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_come_by_pages_and_then_by_what_changed() {
    let lab = Lab::start(tenant(250), |_| {}).await;
    let state = lab.done().await;
    assert_eq!((state.users, state.devices, state.delta_at), (250, 3, None));
    assert_eq!(lab.users().await, 250);
    let found = lab.find("user7@contoso.example").await.unwrap();
    assert_eq!((found.object_id, found.sid.as_deref()), (Some(id(7)), Some("S-1-5-21-1-2-3-7")));
    assert_eq!((found.account.as_str(), found.display_name.as_str()), ("user7", "User 7"));
    let asked = lab.control.counts().graph;
    assert_eq!(asked, 4, "three pages of users and one of devices");

    let mut renamed = user(7);
    renamed.name = "Ada".to_owned();
    lab.control.put_user(TENANT, renamed).unwrap();
    lab.control.put_user(TENANT, user(300)).unwrap();
    lab.control.remove_user(TENANT, id(8)).unwrap();
    lab.again().await;
    let state = lab.done().await;
    assert_eq!(state.delta_at, Some(lab.fetching.now()));
    assert_eq!(state.users, 250, "one came and one went");
    assert_eq!(lab.control.counts().graph - asked, 2, "one page each");
    assert_eq!(lab.find("user7@contoso.example").await.unwrap().display_name, "Ada");
    assert!(lab.find("user300@contoso.example").await.is_some());
    assert!(lab.find("user8@contoso.example").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_state_leads_to_a_whole_list_again() {
    let lab = Lab::start(tenant(5), |_| {}).await;
    lab.done().await;
    lab.control.remove_user(TENANT, id(1)).unwrap();
    lab.control.forget_changes(TENANT).unwrap();
    lab.again().await;
    let state = lab.done().await;
    assert_eq!((state.full_at, state.users, state.problem), (Some(lab.fetching.now()), 4, None));
    assert!(lab.find("user1@contoso.example").await.is_none(), "not in the whole list, so gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn short_waits_are_kept_and_long_ones_put_the_run_off() {
    let lab = Lab::start(tenant(5), |control| control.throttle(TENANT, 2, 1).unwrap()).await;
    assert_eq!(lab.done().await.users, 5, "two waits of a second within the run");

    lab.control.throttle(TENANT, 1, 900).unwrap();
    lab.again().await;
    let state = lab.problem().await;
    assert!(
        state.problem.as_deref().is_some_and(|problem| problem.contains("wait 900 seconds")),
        "{state:?}"
    );
    assert_eq!(state.next_due_at, Some(lab.fetching.now().plus(Duration::from_mins(15))));
    assert_eq!(state.users, 5, "known users stay");
    lab.fetching.clock.advance(Duration::from_secs(899));
    assert!(lab.fetching.site.list_due_syncs().await.unwrap().is_empty());
    lab.fetching.clock.advance(Duration::from_secs(1));
    assert_eq!(lab.done().await.problem, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_consent_is_named_with_the_permission() {
    let lab = Lab::start(tenant(5), |control| control.consent(TENANT, false).unwrap()).await;
    let problem = lab.problem().await.problem.unwrap();
    assert!(problem.contains("consent missing") && problem.contains("Directory.Read.All"), "{problem}");
    lab.control.consent(TENANT, true).unwrap();
    lab.again().await;
    assert_eq!(lab.done().await.users, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_named_and_no_secret_is_shown() {
    let wrong = "not-the-secret-at-all";
    let lab = Lab::start(tenant(5), |_| {}).await;
    lab.done().await;
    let secret = Zeroizing::new(wrong.to_owned());
    lab.fetching.site.set_tenant_secret(&operator(), TENANT, secret, None).await.unwrap();
    lab.again().await;
    let state = lab.problem().await;
    let problem = state.problem.unwrap();
    assert!(problem.contains("AADSTS7000215") && problem.contains("the secret is wrong"), "{problem}");
    assert!(!problem.contains(wrong), "{problem}");
    assert_eq!(state.users, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn outages_leave_known_users() {
    let lab = Lab::start(tenant(5), |_| {}).await;
    lab.done().await;
    for (fault, expected) in [
        (Fault::ServerError, "answered 500"),
        (Fault::Html, "is no page of a list"),
        (Fault::Refuse, "was not reached"),
    ] {
        lab.control.fail(Part::Graph, fault);
        lab.again().await;
        let state = wait_for(expected, async || {
            let state = lab.state().await;
            state.problem.as_ref().is_some_and(|problem| problem.contains(expected)).then_some(state)
        });
        assert_eq!(state.await.users, 5, "{fault:?}");
    }
    lab.control.heal();
    lab.again().await;
    assert_eq!(lab.done().await.problem, None);
}

/// Without a site: one client against the stand-in.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_in_the_middle_of_a_list_is_renewed() {
    let fetching = Fetching::new().await;
    let mut tenant = tenant(5);
    tenant.page_size = 2;
    let bound = bind(&fetching, tenant.clone());
    let source = GraphSource {
        authority: bound.authority(TENANT),
        graph_url: format!("{}/v1.0", bound.base()),
        app_id: tenant.discovery_app.to_string(),
        secret: SecretString::from(tenant.discovery_secret.clone()),
    };
    let outbound = Outbound::new(&fetching.clock, Some(bound.ca_pem()), Proxies::None).unwrap();
    let control = bound.control();
    let _stand_in = run_stand_in(bound);
    let mut client = GraphClient::sign_in(outbound.clone(), source.clone()).await.unwrap();
    let mut list = client.users(None).unwrap();
    let mut found = 0;
    while let Some(page) = list.next().await.unwrap() {
        found += page.iter().filter(|entry| matches!(entry, Entry::Present(_))).count();
        fetching.clock.advance(Duration::from_hours(2));
    }
    assert_eq!(found, 5);
    assert_eq!(control.counts().token, 3, "signed in at first, and for each later page");

    // A link that a site kept from another address is not followed, and no token goes there.
    let link = list.delta_link().unwrap().replace("https://localhost", "https://127.0.0.1");
    let moved = client.users(Some(&link));
    assert!(matches!(moved, Err(GraphError::Resync)), "{moved:?}");
}
