use std::time::Duration;

use proto::id::Guid;
use site::{
    DueSync, FoundDevice, FoundUser, JudgeUserError, Missing, NewDirectory, NewTenant, Site, SyncEnd,
    SyncError, SyncSource, UserFilter, UserGap,
};
use zeroize::Zeroizing;

use crate::support::{TestSite, anna, now};
use crate::tenants::{TENANT, tenant};

const SID: &str = "S-1-5-21-1527250992-855612568-2252598708-1604";
const ENTRA: SyncSource = SyncSource::Tenant(TENANT);

fn id(number: u8) -> Guid {
    Guid::from_bytes([number; 16])
}

fn directory() -> NewDirectory {
    NewDirectory {
        name: "corp".to_owned(),
        url: "ldaps://dc1.example.org".to_owned(),
        base: "DC=example,DC=org".to_owned(),
        filter: String::new(),
        bind_dn: "CN=reader,DC=example,DC=org".to_owned(),
        secret: Some(Zeroizing::new("geheim".to_owned())),
        ca_pem: None,
        start_tls: false,
    }
}

fn entra_user(number: u8, sid: Option<&str>) -> FoundUser {
    FoundUser {
        object_id: Some(id(number)),
        sid: sid.map(str::to_owned),
        principal_name: format!("user{number}@example.org"),
        display_name: format!("User {number}"),
        ..FoundUser::default()
    }
}

fn directory_user(number: u8, sid: &str) -> FoundUser {
    FoundUser {
        sid: Some(sid.to_owned()),
        account: format!("user{number}"),
        domain: "CORP".to_owned(),
        distinguished_name: format!("CN=User {number},OU=People,DC=example,DC=org"),
        ..FoundUser::default()
    }
}

async fn run(site: &Site, source: SyncSource, full: bool, users: Vec<FoundUser>) -> Result<(), SyncError> {
    let sync = site.begin_sync(source).await?;
    site.put_users(sync, users).await?;
    let delta_link = Some("https://graph.example.org/delta?token=1".to_owned());
    site.finish_sync(sync, SyncEnd { full, delta_link }).await.map(drop)
}

async fn onboarded() -> (TestSite, SyncSource) {
    let test = TestSite::new().await;
    test.site.add_tenant(&anna(), tenant("contoso")).await.unwrap();
    let directory = test.site.add_directory(&anna(), directory()).await.unwrap();
    (test, SyncSource::Directory(directory.id))
}

async fn gap(site: &Site, user: u8, sid: Option<&str>) -> Option<UserGap> {
    match site.judge_user(TENANT, id(user), sid).await {
        Ok(_) => None,
        Err(JudgeUserError::Gap(gap)) => Some(gap),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_hybrid_user_must_be_known_to_both_and_a_cloud_user_to_the_tenant_alone() {
    let (test, corp) = onboarded().await;
    let site = &test.site;
    run(site, ENTRA, true, vec![entra_user(1, Some(SID)), entra_user(2, None)]).await.unwrap();
    assert_eq!(gap(site, 2, None).await, None);
    let missing = gap(site, 1, Some(SID)).await.unwrap();
    assert_eq!(missing.missing, Missing::Directory);
    assert_eq!(missing.text, "the discovery in directory corp has not run yet");
    run(site, corp, true, vec![directory_user(1, &SID.to_lowercase())]).await.unwrap();
    assert_eq!(gap(site, 1, Some(SID)).await, None);
    let user = site.judge_user(TENANT, id(1), Some(SID)).await.unwrap();
    assert_eq!((user.principal_name.as_str(), user.account.as_str()), ("user1@example.org", "user1"));
    assert!(user.entra.is_some() && user.directory.is_some());

    let unknown = gap(site, 9, Some("S-1-5-21-9")).await.unwrap();
    assert_eq!(unknown.missing, Missing::Both);
    assert!(unknown.text.contains("tenant contoso did not find the user"), "{}", unknown.text);
    let other_sid = gap(site, 1, Some("S-1-5-21-9")).await.unwrap();
    assert!(other_sid.text.contains(SID) && other_sid.text.contains("S-1-5-21-9"), "{}", other_sid.text);
    assert_eq!(gap(site, 9, None).await.unwrap().missing, Missing::Entra);
    assert_eq!(
        UserGap::log_line(id(1), Some(SID)),
        format!("AAD user with ID {} and SID {SID} is not completely discovered", id(1))
    );
}

#[tokio::test]
async fn a_gap_says_whether_the_discovery_is_off_failed_or_never_ran_and_an_alarm_stands() {
    let test = TestSite::new().await;
    let site = &test.site;
    site.add_tenant(&anna(), NewTenant { discovery: false, ..tenant("contoso") }).await.unwrap();
    let off = gap(site, 1, Some(SID)).await.unwrap();
    assert!(off.text.starts_with("the discovery of users of tenant contoso is off; "), "{}", off.text);
    assert!(off.text.ends_with("is off: no directory was added"), "{}", off.text);
    let alarms = || async {
        let alarms = site.list_alarms().await.unwrap();
        alarms
            .into_iter()
            .filter(|alarm| alarm.kind == "discovery")
            .map(|alarm| alarm.text)
            .collect::<Vec<_>>()
    };
    let standing = alarms().await;
    assert_eq!(standing.len(), 2, "{standing:?}");
    assert!(standing[0].ends_with("those whom it does not know are refused."), "{standing:?}");
    assert_eq!(site.list_still_off(TENANT).await.unwrap().len(), 2);

    site.set_tenant_discovery(&anna(), TENANT, true).await.unwrap();
    assert!(gap(site, 1, None).await.unwrap().text.ends_with("has not run yet"));
    let sync = site.begin_sync(ENTRA).await.unwrap();
    site.fail_sync(sync, "consent missing: Directory.Read.All", None).await.unwrap();
    assert!(
        gap(site, 1, None)
            .await
            .unwrap()
            .text
            .ends_with("never succeeded: consent missing: Directory.Read.All")
    );
    let state = &site.list_tenants().await.unwrap()[0].sync;
    assert_eq!(state.problem.as_deref(), Some("consent missing: Directory.Read.All"));
    assert_eq!(state.next_due_at, Some(now(&test).plus(Duration::from_mins(5))));

    run(site, ENTRA, true, vec![entra_user(1, None)]).await.unwrap();
    let standing = alarms().await;
    assert_eq!(standing.len(), 1, "hybrid users came, and no directory is there: {standing:?}");
    let corp = SyncSource::Directory(site.add_directory(&anna(), directory()).await.unwrap().id);
    run(site, corp, true, vec![directory_user(1, SID)]).await.unwrap();
    assert!(alarms().await.is_empty());
}

#[tokio::test]
async fn a_full_run_takes_away_what_it_did_not_find_and_a_delta_only_what_it_names() {
    let (test, _) = onboarded().await;
    let site = &test.site;
    let both = vec![entra_user(1, None), entra_user(2, None)];
    run(site, ENTRA, true, both.clone()).await.unwrap();
    run(site, ENTRA, false, vec![entra_user(3, None)]).await.unwrap();
    assert_eq!(site.list_tenants().await.unwrap()[0].sync.users, 3);
    run(site, ENTRA, false, vec![FoundUser { removed: true, ..entra_user(2, None) }]).await.unwrap();
    assert!(gap(site, 2, None).await.is_some() && gap(site, 1, None).await.is_none());
    run(site, ENTRA, true, vec![entra_user(1, None)]).await.unwrap();
    assert!(gap(site, 3, None).await.is_some() && gap(site, 1, None).await.is_none());
    let empty = run(site, ENTRA, true, Vec::new()).await;
    assert!(matches!(empty, Err(SyncError::Empty)));
    assert!(gap(site, 1, None).await.is_none(), "nobody is taken away by silence");
    run(site, ENTRA, true, both).await.unwrap();
    assert!(gap(site, 2, None).await.is_none(), "who comes back is known again");
}

#[tokio::test]
async fn a_newer_run_makes_the_older_one_void() {
    let (test, _) = onboarded().await;
    let site = &test.site;
    let old = site.begin_sync(ENTRA).await.unwrap();
    let new = site.begin_sync(ENTRA).await.unwrap();
    let late = site.put_users(old, vec![entra_user(1, None)]).await;
    assert!(matches!(late, Err(SyncError::Superseded)));
    assert!(matches!(site.finish_sync(old, SyncEnd::default()).await, Err(SyncError::Superseded)));
    site.finish_sync(new, SyncEnd { full: true, delta_link: None }).await.unwrap();
    let twice = site.finish_sync(new, SyncEnd::default()).await;
    assert!(matches!(twice, Err(SyncError::Superseded)));
    let nobody = site.begin_sync(SyncSource::Directory(id(77))).await;
    assert!(matches!(nobody, Err(SyncError::Unknown)));
}

#[tokio::test]
async fn runs_are_due_in_their_time_and_when_an_operator_says() {
    let (test, corp) = onboarded().await;
    let site = &test.site;
    let due = || async { site.list_due_syncs().await.unwrap() };
    let full = |source| DueSync { source, full: true };
    assert_eq!(due().await, [full(ENTRA), full(corp)], "never ran");
    let sync = site.begin_sync(corp).await.unwrap();
    assert_eq!(due().await, [full(ENTRA)], "one is under way");
    site.fail_sync(sync, "busy", Some(Duration::from_mins(30))).await.unwrap();
    run(site, ENTRA, true, vec![entra_user(1, None)]).await.unwrap();
    assert!(due().await.is_empty());
    test.advance(5 * 60);
    assert_eq!(due().await, [DueSync { source: ENTRA, full: false }]);
    assert!(site.delta_link(ENTRA).await.unwrap().is_some());
    test.advance(25 * 60);
    assert!(due().await.contains(&full(corp)), "when the source said");

    run(site, ENTRA, false, Vec::new()).await.unwrap();
    site.want_sync(ENTRA, true).await.unwrap();
    assert!(due().await.contains(&full(ENTRA)));
    assert!(site.delta_link(ENTRA).await.unwrap().is_none());
    tokio::time::timeout(Duration::from_secs(5), site.wanted_syncs().notified()).await.unwrap();
    site.set_tenant_enabled(&anna(), TENANT, false).await.unwrap();
    assert_eq!(due().await, [full(corp)]);
    // A run whose process died does not stand in the way for ever.
    site.begin_sync(corp).await.unwrap();
    test.advance(6 * 3600);
    assert_eq!(due().await, [full(corp)]);
}

#[tokio::test]
async fn users_are_listed_once_each_and_found_by_whatever_names_them() {
    let (test, corp) = onboarded().await;
    let site = &test.site;
    run(
        site,
        ENTRA,
        true,
        vec![entra_user(1, Some(SID)), entra_user(2, None), entra_user(3, Some("S-1-5-21-3"))],
    )
    .await
    .unwrap();
    run(site, corp, true, vec![directory_user(1, SID), directory_user(4, "S-1-5-21-4")]).await.unwrap();
    let names = |users: &[site::User]| {
        users.iter().map(|user| format!("{}{}", user.principal_name, user.account)).collect::<Vec<_>>()
    };
    let all = site.list_users(UserFilter::default()).await.unwrap();
    assert_eq!(names(&all), ["user4", "user1@example.orguser1", "user2@example.org", "user3@example.org"]);
    let incomplete = UserFilter { incomplete: true, ..UserFilter::default() };
    let incomplete = site.list_users(incomplete).await.unwrap();
    assert_eq!(names(&incomplete), ["user4", "user3@example.org"]);
    assert!(incomplete.iter().all(|user| user.gap.is_some()));
    let page = UserFilter { offset: 1, limit: 2, ..UserFilter::default() };
    assert_eq!(site.list_users(page).await.unwrap().len(), 2);
    for odd in ["%", "_", "\\", "'"] {
        let filter = UserFilter { text: Some(odd.to_owned()), ..UserFilter::default() };
        assert!(site.list_users(filter).await.unwrap().is_empty(), "{odd}");
    }
    let texts = [
        id(1).to_string(),
        id(1).upper(),
        SID.to_lowercase(),
        "USER1@example.org".to_owned(),
        "user1".to_owned(),
        "corp\\user1".to_owned(),
    ];
    for text in texts {
        let found = site.find_user(&text).await.unwrap().unwrap_or_else(|| panic!("{text}"));
        assert_eq!((found.object_id, found.sid.as_deref()), (Some(id(1)), Some(SID)), "{text}");
        assert_eq!(found.gap, None);
    }
    assert!(
        site.find_user("nobody").await.unwrap().is_none() && site.find_user(" ").await.unwrap().is_none()
    );
}

#[tokio::test]
async fn an_organisational_unit_outside_the_synchronisation_is_named() {
    let (test, corp) = onboarded().await;
    let site = &test.site;
    let computer = |name: &str, unit: &str, sid: &str| FoundDevice {
        sid: Some(sid.to_owned()),
        name: name.to_owned(),
        distinguished_name: format!("CN={name},OU={unit},DC=example,DC=org"),
        ..FoundDevice::default()
    };
    let sync = site.begin_sync(corp).await.unwrap();
    let computers = vec![
        computer("PC1", "Office", "S-1-1"),
        computer("PC2", "Office", "S-1-2"),
        computer("LAB1", "Lab\\, East", "S-1-3"),
        computer("LAB2", "Lab\\, East", "S-1-4"),
    ];
    site.put_devices(sync, computers).await.unwrap();
    site.finish_sync(sync, SyncEnd { full: true, delta_link: None }).await.unwrap();
    let sync = site.begin_sync(ENTRA).await.unwrap();
    let joined = |number, name: &str, sid: Option<&str>| FoundDevice {
        device_id: Some(id(number)),
        sid: sid.map(str::to_owned),
        name: name.to_owned(),
        ..FoundDevice::default()
    };
    site.put_devices(sync, vec![joined(1, "PC1-renamed", Some("s-1-1")), joined(2, "pc2", None)])
        .await
        .unwrap();
    site.finish_sync(sync, SyncEnd { full: true, delta_link: None }).await.unwrap();
    let units = site.list_unsynced_units().await.unwrap();
    assert_eq!(units.len(), 1, "{units:?}");
    assert_eq!(units[0].unit, "OU=Lab\\, East,DC=example,DC=org");
    assert_eq!((units[0].missing, units[0].synced), (2, 0));
    assert_eq!(units[0].examples, ["LAB1", "LAB2"]);
    assert_eq!(site.list_directories().await.unwrap()[0].sync.devices, 4);
}

#[tokio::test]
async fn what_people_typed_into_a_directory_is_data() {
    let (test, _) = onboarded().await;
    let hostile = FoundUser {
        display_name: "a\0b\n'; DROP TABLE found_user;--".to_owned(),
        mail: "x".repeat(10_000),
        ..entra_user(1, None)
    };
    run(&test.site, ENTRA, true, vec![hostile, FoundUser::default()]).await.unwrap();
    let users = test.site.list_users(UserFilter::default()).await.unwrap();
    assert_eq!(users.len(), 1, "a row without its key is passed over");
    assert_eq!(users[0].display_name, "ab'; DROP TABLE found_user;--");
    assert_eq!(users[0].mail.len(), 255);
}

#[tokio::test]
async fn a_directorys_password_goes_over_tls_only_and_comes_back_as_it_was() {
    let test = TestSite::new().await;
    let site = &test.site;
    let clear = NewDirectory { url: "ldap://dc1".to_owned(), ..directory() };
    let refused = site.add_directory(&anna(), clear.clone()).await;
    assert!(matches!(refused, Err(site::DirectoryError::ClearSecret)));
    let added = site.add_directory(&anna(), NewDirectory { start_tls: true, ..clear }).await.unwrap();
    assert_eq!(site.directory_secret(added.id).await.unwrap().unwrap().as_str(), "geheim");
    assert!(matches!(site.add_directory(&anna(), directory()).await, Err(site::DirectoryError::Exists(_))));
    site.remove_directory(&anna(), added.id).await.unwrap();
    assert!(site.directory_secret(added.id).await.is_err());
}
