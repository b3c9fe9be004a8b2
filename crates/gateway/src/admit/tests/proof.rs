//! What certificates and tokens prove, and what is said about those that prove nothing.

use super::*;

#[test]
fn a_trusted_certificate_is_who_asks_at_its_own_door() {
    let facts = Case::get(&at(Door::MutualAuth, "/SMS_MP/.sms_aut?MPLIST")).with_certificate(Ok(()));
    let Ok(Admitted::Role(passage)) = facts.admit(&site()) else { panic!("passes") };
    assert_eq!(passage.identity, Identity::Certificate { thumbprint: mine() });
    let mut bare = Case::get(&at(Door::MutualAuth, "/SMS_MP/.sms_aut?MPLIST"));
    bare.verdict = Ok(());
    let refused = bare.refused(&site());
    assert_eq!(refused.reason, Reason::NoClientCertificate, "nothing was shown, whatever is thought of it");
    let elsewhere = Case::get(&at(Door::ServerAuth, "/SMS_MP/.sms_aut?MPLIST")).with_certificate(Ok(()));
    assert_eq!(elsewhere.refused(&site()).reason, Reason::NoToken);
}

#[test]
fn a_distrusted_certificate_gets_the_doors_phrase_the_causes_code_and_the_operator_the_rest() {
    let expired = Distrust::Expired { subject: "CN=pc1".into(), since: now() };
    for (verdict, reason, detail) in [
        (NotTrusted::SelfSigned, Reason::NoClientCertificate, "self-signed"),
        (NotTrusted::Distrust(expired), Reason::CertificateExpired, "CN=pc1 expired at"),
        (
            NotTrusted::Distrust(Distrust::NoCrl { issuer: "CN=CA".into() }),
            Reason::RevocationUnknown,
            "CN=CA",
        ),
    ] {
        let refused = sts(Door::MutualAuth).with_certificate(Err(verdict)).refused(&site());
        assert_eq!(refused.reason, reason);
        assert_eq!(refused.phrase.or(reason.row().phrase), Some(status::INVALID_CLIENT_CERTIFICATE));
        assert_eq!((refused.status().as_u16(), refused.close), (401, false));
        assert!(refused.detail.contains(detail), "{}", refused.detail);
    }
}

#[test]
fn where_certificate_and_token_come_the_token_decides() {
    let case = sts(Door::MutualAuth).with_certificate(Ok(()));
    assert!(case.admit(&site()).is_ok());
    let mut with_token = sts(Door::MutualAuth).with_token(TokenClass::SelfProve);
    with_token.verdict = Ok(());
    let Ok(Admitted::Role(passage)) = with_token.admit(&site()) else { panic!("passes") };
    assert_eq!(passage.identity.caller(), Caller::SelfProve);
    with_token.authorization = Some("Bearer forged".into());
    assert_eq!(with_token.refused(&site()).reason, Reason::TokenNotAccepted);
    with_token.authorization = Some("Basic YTpi".into());
    assert!(with_token.admit(&site()).is_ok(), "what is no bearer token is none");
}

#[test]
fn what_is_told_of_a_tenants_token_comes_after_its_signature() {
    let at_door = |text: &str, door| sts(door).with_bearer(text);
    for door in DOORS {
        let forged = at_door("EntraForged", door).refused(&site());
        assert_eq!(forged.reason, Reason::TokenNotAccepted);
        let unknown = at_door("EntraUnknownKey", door).refused(&site());
        assert_eq!((unknown.reason, unknown.phrase), (forged.reason, forged.phrase));
        assert_eq!((unknown.wants_keys_of, forged.wants_keys_of), (Some(TENANT), None));
        assert_eq!(at_door("EntraOff", door).refused(&site()).reason, Reason::TenantDisabled);
        let good = at_door("EntraDevice", door);
        for (seconds, reason) in [
            (1_789_990_000, Reason::TokenNotYetValid),
            (1_790_010_000, Reason::TokenExpired),
            (1_790_060_000, Reason::TenantKeysTooOld),
        ] {
            let refused = good.admit_at(&site(), Timestamp::from_seconds(seconds)).unwrap_err();
            assert_eq!(refused.reason, reason);
        }
    }
}

#[test]
fn no_stranger_makes_the_site_fetch_for_a_tenant_that_is_off_or_unknown() {
    let mut site = site();
    let case = sts(Door::ServerAuth).with_bearer("EntraUnknownKey");
    assert_eq!(case.refused(&site).wants_keys_of, Some(TENANT));
    site.apply(Change::SetTenant(PublishedTenant { enabled: false, ..published_tenant() }));
    assert_eq!(case.refused(&site).wants_keys_of, None);
    site.apply(Change::RemoveTenant(TENANT));
    assert_eq!(case.refused(&site).wants_keys_of, None);
}

#[test]
fn a_bound_token_counts_with_its_key_only() {
    let mut site = site();
    let path = at(Door::ServerAuth, "/SMS_MP_TokenAuth/.sms_pol?x");
    let mut case = Case::get(&path).with_token(TokenClass::Device);
    assert!(case.admit(&site).is_ok());
    case.shown = Some(Thumbprint::of(b"another's"));
    let refused = case.refused(&site);
    assert_eq!((refused.reason, refused.device), (Reason::TokenNotAccepted, None));
    case.shown = None;
    let refused = case.refused(&site);
    assert_eq!((refused.reason, refused.device), (Reason::TokenKeyMissing, None));
    site.settings.token_binding = TokenBinding::Off;
    assert!(case.admit(&site).is_ok());
}

#[test]
fn a_token_that_is_none_gets_the_phrase_of_its_door() {
    for (door, phrase) in
        [(Door::ServerAuth, None), (Door::MutualAuth, Some(status::INVALID_CLIENT_CERTIFICATE))]
    {
        let mut case = sts(door);
        case.authorization = Some("Bearer forged".to_owned());
        let refused = case.refused(&site());
        assert_eq!((refused.reason, refused.phrase), (Reason::TokenNotAccepted, phrase));
        assert!(refused.detail.contains("signature"), "the operator learns the cause: {}", refused.detail);
    }
}

#[test]
fn an_expired_bulk_token_is_told_from_a_forged_one() {
    let case = sts(Door::ServerAuth).with_token(TokenClass::Bulk);
    let late = now().plus(std::time::Duration::from_hours(2));
    let refused = case.admit_at(&site(), late).unwrap_err();
    assert_eq!(refused.reason, Reason::TokenExpired);
    assert!(refused.detail.contains("expired at"), "{}", refused.detail);
}

#[test]
fn an_ended_token_of_a_device_opens_the_token_service_with_its_key_and_nothing_else() {
    let late = now().plus(std::time::Duration::from_hours(24 * 200));
    for door in DOORS {
        let case = || sts(door).with_token(TokenClass::SelfProve);
        let Ok(Admitted::Role(passage)) = case().admit_at(&site(), late) else { panic!("passes at {door}") };
        assert_eq!(passage.identity.caller(), Caller::SelfProve);
        let refused = |case: &Case, site: &Snapshot| case.admit_at(site, late).unwrap_err().reason;
        // Not by another key, or none, also where the site does without keys.
        let mut unbound = site();
        unbound.settings.token_binding = TokenBinding::Off;
        for shown in [None, Some(Thumbprint::of(b"another's"))] {
            let mut other = case();
            other.shown = shown;
            assert!(matches!(refused(&other, &site()), Reason::TokenNotAccepted | Reason::TokenKeyMissing));
            assert_eq!(refused(&other, &unbound), Reason::TokenExpired);
        }
        // Not a blocked device, by its id or by its key.
        for (device, certificate) in [(device(), Thumbprint::of(b"x")), (ClientId::new(Guid::nil()), mine())]
        {
            let mut blocked = site();
            blocked.apply(Change::BlockDevice { device, certificate });
            assert_eq!(refused(&case(), &blocked), Reason::DeviceBlocked);
        }
        // No other class there, and it nowhere else.
        for class in TokenClass::ALL.into_iter().filter(|class| *class != TokenClass::SelfProve) {
            assert_eq!(refused(&sts(door).with_token(class), &site()), Reason::TokenExpired, "{class:?}");
        }
        let page = Case::get(&format!("/{door}/ServiceMetadata")).with_token(TokenClass::SelfProve);
        assert_eq!(refused(&page, &site()), Reason::TokenExpired);
        for endpoint in ENDPOINTS.iter().filter(|row| row.is_published() && row.path != "/CCM_STS") {
            let mut elsewhere = Case::get(&at(door, endpoint.path)).with_token(TokenClass::SelfProve);
            elsewhere.method = endpoint.methods[0].to_owned();
            assert_eq!(refused(&elsewhere, &site()), Reason::TokenExpired, "{}", endpoint.path);
        }
    }
}

#[test]
fn blocks_of_tokens_devices_and_certificates_all_count() {
    let policy = at(Door::ServerAuth, "/SMS_MP_TokenAuth/.sms_pol");
    let device_case = || Case::get(&policy).with_token(TokenClass::Device);
    let bulk_case = || sts(Door::ServerAuth).with_token(TokenClass::Bulk);
    let mut blocked = site();
    blocked.apply(Change::BlockDevice { device: device(), certificate: mine() });
    let refused = device_case().refused(&blocked);
    assert_eq!((refused.reason, refused.device), (Reason::DeviceBlocked, Some(device())));
    assert_eq!(bulk_case().refused(&blocked).reason, Reason::DeviceBlocked, "by the key that it showed");
    let mut blocked = site();
    blocked.apply(Change::BlockBulkToken(Guid::from_bytes([7; 16])));
    assert_eq!(bulk_case().refused(&blocked).reason, Reason::BulkTokenBlocked);
    let locations = Case::get(&at(Door::ServerAuth, "/SMS_MP_TokenAuth/.sms_aut"));
    let refused = locations.with_token(TokenClass::PreAuth).refused(&blocked);
    assert_eq!(refused.reason, Reason::BulkTokenBlocked, "also what came from the blocked token");
    assert!(device_case().admit(&blocked).is_ok());
}

#[test]
fn a_blocked_certificate_opens_nothing_by_itself_or_with_a_tenants_token() {
    let mut blocked = site();
    blocked.apply(Change::BlockDevice { device: device(), certificate: mine() });
    let refused = sts(Door::MutualAuth).with_certificate(Ok(())).refused(&blocked);
    assert_eq!(
        (refused.reason, refused.phrase),
        (Reason::DeviceBlocked, Some(status::INVALID_CLIENT_CERTIFICATE))
    );
    for text in ["EntraDevice", "EntraUser"] {
        let refused = sts(Door::ServerAuth).with_bearer(text).refused(&blocked);
        assert_eq!(refused.reason, Reason::DeviceBlocked, "{text}");
    }
}
