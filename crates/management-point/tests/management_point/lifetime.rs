//! How a management point begins and ends.

use std::time::Duration;

use management_point::{Config, ManagementPoint, Options};
use proto::message::MessageEndpoint;
use proto::request::registration::{ApprovalStatus, ClientRegistrationResponse};
use runtime::Drain;
use runtime::drain::Finished;

use crate::support::message::plain;
use crate::support::{Ask, Bench, devices, registration_body};

fn here() -> Config {
    Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_code_can_make_it_approve_everything() {
    let bench = Bench::start().await;
    let options = Options { approve_everything: true };
    let bound = ManagementPoint::bind(here(), bench.site.clone(), bench.clock.clone(), options).unwrap();
    let (address, drain) = (bound.address(), Drain::new());
    let serving = drain.clone();
    tokio::spawn(async move { bound.run(serving).await.unwrap() });
    let body = registration_body(&devices()[0], "PC1", bench.now(), None);
    let ask = Ask::message("/ccm_system/request", plain(&bench, MessageEndpoint::ClientRegistration, &body));
    let answer = ask.send(address).await;
    let response = ClientRegistrationResponse::parse(&answer.reply()).unwrap();
    assert_eq!(response.approval, ApprovalStatus::Approved);
    let record = bench.site.find_device(response.client_id).await.unwrap().unwrap();
    assert_eq!(record.approval_by, "lab");
    drain.begin(Duration::from_secs(5));
    assert_eq!(drain.finish().await, Finished::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_it_although_a_connection_is_kept() {
    let bench = Bench::start().await;
    let bound =
        ManagementPoint::bind(here(), bench.site.clone(), bench.clock.clone(), Options::default()).unwrap();
    let (address, drain) = (bound.address(), Drain::new());
    let serving = drain.clone();
    let running = tokio::spawn(async move { bound.run(serving).await.unwrap() });
    let kept = tokio::net::TcpStream::connect(address).await.unwrap();
    assert_eq!(Ask::get("/SMS_MP/.sms_aut?MPCERT").send(address).await.status, 200);
    drain.begin(Duration::from_secs(5));
    running.await.unwrap();
    assert_eq!(drain.finish().await, Finished::Clean);
    drop(kept);
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nothing listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_https_address_that_the_configuration_names_must_be_free() {
    let bench = Bench::start().await;
    let taken = Config { listen_tls: Some(bench.address), ..here() };
    let bound = ManagementPoint::bind(taken, bench.site.clone(), bench.clock.clone(), Options::default());
    assert_eq!(bound.unwrap_err().address, bench.address);
}
