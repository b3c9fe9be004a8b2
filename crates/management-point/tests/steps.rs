//! The steps of a request, as a collector of traces gets them. A process of its own: what is told is decided for a
//! whole process.

#[path = "management_point/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the other tests use the rest of it")]
mod support;

use std::sync::{Arc, Mutex};

use runtime::Clock;
use runtime::telemetry::{ComponentSpec, Console, Format, LogConfig, Step, StepSink, StepValue, start};

use support::{Bench, NOW, devices};

#[derive(Debug, Default)]
struct Kept(Mutex<Vec<Step>>);

impl StepSink for Kept {
    fn wants(&self, _: &[u8; 16]) -> bool {
        true
    }

    fn ended(&self, step: Step) {
        self.0.lock().unwrap().push(step);
    }
}

// One thread, so that everything the management point does comes to this test's own collector.
#[tokio::test]
async fn a_registration_is_told_step_by_step_down_to_its_transaction() {
    let kept = Arc::new(Kept::default());
    let spec = ComponentSpec { component: "SMS_TEST", file: "test.log", format: Format::Simple };
    let config = LogConfig {
        console: Console::Off,
        steps: Some(Arc::clone(&kept) as Arc<dyn StepSink>),
        ..LogConfig::new(spec, Clock::manual(NOW * 1_000_000))
    };
    let (subscriber, _handle) = start(config).unwrap();
    let telling = tracing::subscriber::set_default(subscriber);
    let bench = Bench::start().await;
    let [device, ..] = devices();
    device.enroll(&bench).await;
    drop(telling);

    let steps = std::mem::take(&mut *kept.0.lock().unwrap());
    let text = |step: &Step, key: &str| {
        step.attributes.iter().find_map(|(name, value)| match value {
            StepValue::Text(text) if *name == key => Some(text.clone()),
            _ => None,
        })
    };
    let write = steps.iter().find(|step| {
        step.name == "site.write" && text(step, "operation").is_some_and(|name| name.starts_with("register"))
    });
    let write = write.unwrap_or_else(|| panic!("no registration was written: {steps:?}"));
    let of_request: Vec<_> = steps.iter().filter(|step| step.request == write.request).collect();
    let parent = |step: &Step| of_request.iter().find(|other| Some(other.id) == step.parent).copied();
    let handle = parent(write).unwrap();
    let request = parent(handle).unwrap();
    assert_eq!(
        (handle.name, request.name, request.parent),
        ("management-point.handle", "management-point.request", None)
    );
    assert!(request.attributes.contains(&("status", StepValue::Whole(200))), "{request:?}");
    assert!(text(request, "endpoint").is_some() && request.took >= handle.took && handle.took >= write.took);
    let authenticate = of_request.iter().find(|step| step.name == "management-point.authenticate").unwrap();
    assert_eq!(authenticate.parent, Some(request.id));
    let told = format!("{steps:?}");
    assert!(!told.contains("eyJ") && !told.contains("Bearer"), "no token is in any of them");
}
