//! Locations and site facts: what anybody inside may know.

use proto::message::MessageEndpoint;
use proto::message::RsaPublicKey;
use proto::reason::Reason;
use proto::request::location::ClientLocationInfo;
use proto::request::location::management_point::{
    EnumerateMpLocationReply, EnumerateMpLocationRequest, MpRequestType,
};
use proto::request::location::site::{AssignedSiteReply, SiteInfoReply};
use proto::request::site_facts::{MpList, SiteSigningCertificate, TrustedRootKey};
use proto::trust::{Purpose, SiteRoot};
use site::{NewGateway, NewRole, RoleMode};

use crate::support::message::plain;
use crate::support::{Ask, Bench, new_role, operator};

/// A gateway, a role that it publishes, and one that it does not.
async fn publish(bench: &Bench) -> String {
    let gateway = NewGateway {
        name: "gw".into(),
        host: "gw.example.org:8443".into(),
        address: "gw.example.org:8443".into(),
    };
    bench.site.add_gateway(&operator(), gateway).await.unwrap();
    let role = |name: &str, mode, gateway_traffic| NewRole {
        internal_url: format!("https://{name}.example.org"),
        ..new_role(name, mode, gateway_traffic)
    };
    let open = bench.site.add_role(&operator(), role("mp1", RoleMode::Ehttp, true)).await.unwrap();
    bench.site.add_role(&operator(), role("mp2", RoleMode::Ehttp, false)).await.unwrap();
    // In plain HTTP mode it takes nothing from gateways, whatever its switch says.
    bench.site.add_role(&operator(), role("mp3", RoleMode::Http, true)).await.unwrap();
    format!("gw.example.org:8443/CCM_Proxy_MutualAuth/{}", open.id)
}

async fn enumerate(bench: &Bench, request_type: MpRequestType, site: &str) -> Vec<(String, String)> {
    let location = ClientLocationInfo::of_our_client(None, false);
    let body = EnumerateMpLocationRequest { request_type, location, site_code: site.into() }.to_xml();
    let ask = Ask::message("/ccm_system/request", plain(bench, MessageEndpoint::LocationManager, &body));
    let reply = EnumerateMpLocationReply::parse(&bench.send(ask).await.reply()).unwrap();
    assert_eq!(reply.site_code, "RG1");
    reply.records.into_iter().map(|record| (record.internet_name, record.intranet_name)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_inside_learns_the_gateways_before_it_needs_them() {
    let bench = Bench::start().await;
    assert_eq!(enumerate(&bench, MpRequestType::Internet, "RG1").await, [], "no gateway yet");
    let address = publish(&bench).await;
    assert_eq!(enumerate(&bench, MpRequestType::Internet, "rg1").await, [(address, String::new())]);
    let ours = (String::new(), bench.address.to_string());
    assert_eq!(enumerate(&bench, MpRequestType::Assigned, "RG1").await, [ours]);
    for request_type in [MpRequestType::Proxy, MpRequestType::Local] {
        assert_eq!(enumerate(&bench, request_type, "RG1").await, []);
    }
    assert_eq!(enumerate(&bench, MpRequestType::Assigned, "XYZ").await, [], "another site's");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_an_empty_list() {
    let bench = Bench::start().await;
    let ask = async |body: &str| {
        let body = plain(&bench, MessageEndpoint::LocationManager, body);
        bench.send(Ask::message("/ccm_system/request", body)).await.reply()
    };
    let other =
        r#"<SiteInformationRequest SchemaVersion="1.00"><SiteCode Name="XYZ"/></SiteInformationRequest>"#;
    assert_eq!(SiteInfoReply::parse(&ask(other).await).unwrap().sites, []);
    let assigned = ask(r#"<AssignedSiteRequest SchemaVersion="1.00"/>"#).await;
    let site = AssignedSiteReply::parse(&assigned).unwrap().site.unwrap();
    assert_eq!((site.site_code.as_str(), site.settings), ("RG1", None));
    let content = r#"<ContentLocationRequest SchemaVersion="1.00"><AssignedSite SiteCode="RG1"/><ClientLocationInfo/><Package ID="RG100001" Version="1"/></ContentLocationRequest>"#;
    assert!(ask(content).await.contains("<LocationRecords/>"));
    let updates = r#"<WSUSLocationRequest SchemaVersion="1.00"><AssignedSite SiteCode="RG1"/><Content ID="1" Version="1"/><ClientLocationInfo/></WSUSLocationRequest>"#;
    assert!(ask(updates).await.contains("<LocationRecords/>"));
    let local = r#"<LocalMPLocationRequest SchemaVersion="1.00"><AssignedSite SiteCode="RG1"/><ClientLocationInfo/></LocalMPLocationRequest>"#;
    assert!(ask(local).await.contains("<LocationRecords/>"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_can_pin_the_root_and_check_what_signs_its_policy() {
    let bench = Bench::start().await;
    let root = SiteRoot::new(bench.site.root_certificate()).unwrap();
    let pinned = bench.send(Ask::get("/SMS_MP/.sms_aut?SMSTRC")).await;
    let TrustedRootKey(blob) = TrustedRootKey::parse(&pinned.text()).unwrap();
    assert_eq!(
        proto::public_key_blob::parse(&blob).unwrap(),
        RsaPublicKey::from_certificate(root.der()).unwrap()
    );
    let signing = bench.send(Ask::get("/sms_mp/.sms_aut?sitesigncert")).await;
    let SiteSigningCertificate(leaf) = SiteSigningCertificate::parse(&signing.text()).unwrap();
    let mut chain = bench.site.site_signing_chain();
    assert_eq!(leaf, chain[0]);
    chain[0] = leaf;
    root.verify(&chain, Purpose::SiteSigning, bench.now()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_management_points_name_gateways_for_the_internet_only() {
    let bench = Bench::start().await;
    let address = publish(&bench).await;
    let list = async |verb: &str| {
        let answer = bench.send(Ask::get(&format!("/SMS_MP/.sms_aut?{verb}"))).await;
        MpList::parse(&answer.text()).unwrap().management_points
    };
    for verb in ["MPLIST", "MPLIST1&RG1", "mplist"] {
        let listed = list(verb).await;
        assert_eq!(
            listed.iter().map(|mp| mp.fqdn.clone()).collect::<Vec<_>>(),
            [bench.address.to_string()],
            "{verb}"
        );
    }
    assert_eq!(list("MPLIST1").await[0].site_code.as_deref(), Some("RG1"));
    let internet: Vec<_> = list("MPLIST2&RG1").await.into_iter().map(|mp| mp.fqdn).collect();
    assert_eq!(internet, [address, bench.address.to_string()]);
    assert_eq!(list("MPLIST1&XYZ").await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn site_facts_that_are_not_given_say_so() {
    let bench = Bench::start().await;
    let media = bench.send(Ask::get("/SMS_MP/.sms_aut?MPLOCATION&ir=1&ip=2")).await;
    assert_eq!((media.status, media.reason()), (404, Some(Reason::NotServed)));
    for query in ["", "?", "?NOTHING", "?MPLIST1&%00", "?GETCLIENTAFFINITY&nobody", "?%"] {
        let answer = bench.send(Ask::get(&format!("/SMS_MP/.sms_aut{query}"))).await;
        assert_eq!((answer.status, answer.reason()), (404, Some(Reason::UnknownQuery)), "{query}");
    }
    let affinity =
        bench.send(Ask::get("/SMS_MP/.sms_aut?GETCLIENTAFFINITY&GUID:00000000-0000-0000-0000-000000000001"));
    assert_eq!(affinity.await.text(), "<MachineAffinity/>", "whose device it is, nobody is told");
}
