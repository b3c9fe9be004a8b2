//! One device over seventeen months, as real processes on a clock that the story moves: tokens that are
//! renewed, keys that are rotated, a tenant joined, a certificate given, ended and revoked, places
//! changed, a long sleep and a longer one. It is the same device all along.

mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use proto::time::Timestamp;
use runtime::Clock;
use serde_json::Value;
use support::organisation::Organisation;
use support::roamer::Roamer;
use support::{Lab, write_clock};

/// How long a device may take until the site sees what the story waits for.
const PATIENCE: Duration = Duration::from_secs(40);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(150);
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

#[test]
fn one_device_lives_through_seventeen_months_under_one_id() {
    let mut story = Story::begin();
    story.it_is_set_up_by_a_bulk_token_over_the_gateway();
    story.its_day_tokens_are_renewed_every_eight_hours();
    story.the_sites_signing_key_is_rotated_and_no_token_is_refused();
    story.its_long_token_is_renewed_within_its_months();
    story.it_visits_the_office();
    story.it_joins_a_tenant_and_its_method_follows_by_itself();
    story.it_gets_a_certificate_and_its_method_follows_by_itself();
    story.its_certificate_ends_and_the_fall_is_seen();
    story.its_next_certificate_is_revoked_and_the_fall_is_seen();
    story.it_leaves_the_tenant_and_goes_on_by_its_own_key();
    story.it_sleeps_for_a_hundred_and_twenty_days_and_comes_back_by_its_key();
    story.it_is_away_for_too_long_and_comes_back_when_it_is_readmitted();
    story.end();
}

struct Story {
    lab: Lab,
    device: Roamer,
    organisation: Organisation,
    /// The real time at the beginning, in seconds since the Unix epoch.
    began: i64,
    /// Seconds by which the story is ahead of the real time.
    offset: i64,
    /// The device's id, once it has one.
    id: String,
    /// The method of the last row.
    method: String,
    timeline: String,
}

/// What client and site say.
struct Seen {
    status: Value,
    record: Value,
}

impl Seen {
    fn method(&self) -> &str {
        word(&self.status["method"])
    }

    /// Both sides name this method.
    fn is_by(&self, method: &str) -> bool {
        self.status["method"] == method && self.record["method"] == method
    }

    fn path(&self) -> &str {
        word(&self.record["last_seen_path"])
    }

    fn ends(&self, token: &str) -> &str {
        word(&self.status[token]["expires"])
    }
}

impl Story {
    fn begin() -> Self {
        let lab = Lab::start();
        let began = Clock::system().now_seconds();
        let device = Roamer::new(&lab, "traveller");
        let organisation = Organisation::new(lab.folder.path(), began);
        lab.operator(&["trust", "add", text(&organisation.root())]);
        let mut story = Self {
            lab,
            device,
            organisation,
            began,
            offset: 0,
            id: String::new(),
            method: String::new(),
            timeline: String::new(),
        };
        story.publish_list(&[]);
        story
    }

    fn it_is_set_up_by_a_bulk_token_over_the_gateway(&mut self) {
        let made = self.lab.operator(&["bulk-token", "new", "--max-uses", "1", "--note", "months"]);
        let mut words = self.device.setup_words(&self.lab);
        words.extend(self.device.proof_words(&self.lab));
        words.extend(["--hardware-id".to_owned(), "random".to_owned()]);
        let output = self.device.set_up(&words, word(&made["token"]));
        assert!(output.status.success(), "{output:?}");
        word(&self.device.status()["client_id"]).clone_into(&mut self.id);
        self.device.start("2s");
        let seen = self.wait("set up by a bulk token over the gateway", |seen| {
            seen.is_by("site token") && seen.record["presence"] == "online" && seen.path() == "gateway"
        });
        assert!(word(&seen.record["approved_by"]).contains("bulk-token"), "{}", seen.record);
        let life = moment(seen.ends("self_prove_token")) - self.now();
        assert!((89 * DAY..=90 * DAY).contains(&life), "{life}");
        let life = moment(seen.ends("ccm_token")) - self.now();
        assert!((7 * HOUR..=8 * HOUR).contains(&life), "{life}");
        // What it will have, it has not yet, and it says so.
        let not_used = seen.record["methods_not_used"].to_string();
        assert!(not_used.contains("certificate") && not_used.contains("Entra device"), "{not_used}");
    }

    fn its_day_tokens_are_renewed_every_eight_hours(&mut self) {
        for number in ["first", "second"] {
            let before = self.device.status()["ccm_token"]["expires"].clone();
            self.pass(7 * HOUR + HOUR / 2);
            assert!(self.now() < moment(word(&before)), "it is renewed before its end");
            self.wait(&format!("{number} renewal of its CCM token"), |seen| {
                seen.ends("ccm_token") > word(&before) && seen.status["ccm_token"]["standing"] == "good"
            });
        }
        // The field's line for it, with the account that it is for.
        let lines = self.device.log_lines("is already expired or close to expire");
        assert!(lines.iter().any(|line| line.contains("CCM Token for 'S-1-5-18'")), "{lines:?}");
    }

    /// Tokens of the key that retires stay good: the device is not asked for another one.
    fn the_sites_signing_key_is_rotated_and_no_token_is_refused(&mut self) {
        self.pass(DAY);
        let before = self.wait("a day later", |seen| seen.status["ccm_token"]["standing"] == "good");
        let (old_key, refusals) = (self.device.signing_key_of("ccm"), self.refusals());
        self.lab.operator(&["key", "rotate"]);
        for poll in ["first", "second", "third"] {
            let asked = self.device.status()["last_policy"].clone();
            let seen = self
                .wait(&format!("token of the key before, {poll} poll after the rotation"), |seen| {
                    word(&seen.status["last_policy"]) > word(&asked)
                });
            assert_eq!(seen.ends("ccm_token"), before.ends("ccm_token"), "the old token goes on");
        }
        self.pass(7 * HOUR + HOUR / 2);
        let seen = self.wait("its next CCM token", |seen| seen.ends("ccm_token") > before.ends("ccm_token"));
        assert_ne!(self.device.signing_key_of("ccm"), old_key, "signed by the new key");
        assert_eq!(self.device.signing_key_of("self_prove"), old_key, "given for a token of the old one");
        assert_eq!(seen.status["last_failure"], Value::Null);
        assert_eq!(self.refusals(), refusals, "no good token was refused");
    }

    fn its_long_token_is_renewed_within_its_months(&mut self) {
        let before = self.device.status()["self_prove_token"].clone();
        let from = moment(word(&before["renew_from"])) - self.began;
        assert!((29 * DAY..39 * DAY).contains(&from), "from a third of its life on: {}", from / DAY);
        self.go_to(from + HOUR);
        let seen = self.wait("monthly renewal of its self-prove token", |seen| {
            seen.ends("self_prove_token") > word(&before["expires"])
        });
        // The site gave it, so the site knows its end.
        assert_eq!(seen.record["token_expires_at"], seen.status["self_prove_token"]["expires"]);
        assert_eq!(seen.record["recovered_at"], Value::Null, "in time, and not by its key alone");
    }

    fn it_visits_the_office(&mut self) {
        if !self.device.can_roam() {
            println!("SKIPPED: this system gives no network namespaces, so nothing can be unplugged");
            return;
        }
        self.device.plug_in();
        let method = self.device.status()["method"].clone();
        let seen = self.wait("comes into the office", |seen| {
            seen.path() == "intranet" && seen.status["locality"] == "intranet"
        });
        assert_eq!(seen.status["method"], method, "the place changes no method");
        self.device.unplug();
        let seen = self.wait("leaves it again", |seen| {
            seen.path() == "gateway" && seen.status["locality"] == "internet"
        });
        assert_eq!(seen.status["method"], method);
    }

    /// Month two. The files of a workplace join appear, and nobody says a word to the client.
    fn it_joins_a_tenant_and_its_method_follows_by_itself(&mut self) {
        self.sleep_until(45 * DAY);
        copy(Path::new(self.lab.text("tenant.workplace_join_dir")), &self.device.workplace_join);
        self.pass(HOUR);
        let seen = self.wait("joined the tenant; method by itself", |seen| seen.is_by("Entra device"));
        let reason = word(&seen.record["method_reason"]);
        assert!(reason.contains(self.lab.text("tenant.tenant_id")), "{reason}");
        assert_eq!(seen.record["entra_tenant"], self.lab.text("tenant.tenant_id"));
        assert!(moment(word(&seen.record["method_since"])) > self.began + 45 * DAY, "{}", seen.record);
        let not_used = &seen.record["methods_not_used"];
        assert_eq!(not_used[0]["method"], "certificate", "{not_used}");
        assert!(!word(&not_used[0]["reason"]).is_empty(), "{not_used}");
        self.it_visits_the_office();
    }

    /// Month three. A certificate of the organisation's PKI appears in its store.
    fn it_gets_a_certificate_and_its_method_follows_by_itself(&mut self) {
        self.its_long_token_is_renewed_by_day(84);
        self.sleep_until(85 * DAY);
        let ends = self.began + 130 * DAY;
        self.organisation.issue(&self.device.name, 0x1001, ends, &self.device.certificates);
        self.pass(HOUR);
        let seen = self.wait("got a certificate; method by itself", |seen| seen.is_by("certificate"));
        assert!(word(&seen.record["pki_subject"]).contains("traveller.contoso.com"), "{}", seen.record);
        assert_eq!(moment(word(&seen.record["pki_not_after"])), ends);
        assert!(word(&seen.record["method_reason"]).contains("traveller.contoso.com"), "{}", seen.record);
        assert_eq!(self.fallen_back(), None);
        self.it_visits_the_office();
        self.its_long_token_is_renewed_by_day(124);
    }

    fn its_certificate_ends_and_the_fall_is_seen(&mut self) {
        self.sleep_until(130 * DAY - HOUR);
        self.pass(2 * HOUR);
        let seen = self.wait("its certificate has ended", |seen| seen.is_by("Entra device"));
        self.the_fall_is_seen(&seen, "expired");
        let ends = self.began + 400 * DAY;
        self.organisation.issue(&self.device.name, 0x1002, ends, &self.device.certificates);
        self.pass(HOUR);
        let seen = self.wait("got the next certificate", |seen| {
            seen.is_by("certificate") && moment(word(&seen.record["pki_not_after"])) == ends
        });
        assert_eq!((self.fallen_back(), &seen.record["fell_back_at"]), (None, &Value::Null));
    }

    fn its_next_certificate_is_revoked_and_the_fall_is_seen(&mut self) {
        self.publish_list(&[0x1002]);
        let seen = self.wait("its certificate is revoked", |seen| seen.is_by("Entra device"));
        self.the_fall_is_seen(&seen, "revoked");
    }

    fn it_leaves_the_tenant_and_goes_on_by_its_own_key(&mut self) {
        for folder in [&self.device.certificates, &self.device.workplace_join] {
            for file in support::files_below(folder) {
                std::fs::remove_file(file).expect("it is there");
            }
        }
        self.pass(25 * HOUR);
        let seen = self.wait("left the tenant", |seen| seen.is_by("site token"));
        let not_used = seen.record["methods_not_used"].to_string();
        assert!(not_used.contains("certificate") && not_used.contains("Entra device"), "{not_used}");
    }

    fn it_sleeps_for_a_hundred_and_twenty_days_and_comes_back_by_its_key(&mut self) {
        let before = self.device.status()["self_prove_token"]["expires"].clone();
        self.device.stop();
        self.pass(120 * DAY);
        self.wait_for_the_site();
        assert!(moment(word(&before)) < self.now(), "its token has ended in its sleep");
        self.device.start("2s");
        let seen = self.wait("woke up after 120 days: back by its key", |seen| {
            seen.ends("self_prove_token") > word(&before)
                && seen.record["recovered_at"].is_string()
                && seen.record["presence"] == "online"
                && seen.path() == "gateway"
        });
        assert!(moment(word(&seen.record["recovered_at"])) >= self.began + self.offset, "{}", seen.record);
        assert!(seen.is_by("site token"));
        assert!(self.stranded().is_none(), "who is back knocks no more");
        assert_eq!(seen.status["last_failure"], Value::Null);
    }

    fn it_is_away_for_too_long_and_comes_back_when_it_is_readmitted(&mut self) {
        self.device.stop();
        // Token 90 days, window 180 days.
        self.pass(275 * DAY);
        self.wait_for_the_site();
        self.device.start("2s");
        self.wait("after 275 days: refused, RG-5004", |seen| {
            seen.status["last_failure"]["reason"] == "RG-5004"
        });
        let look = || self.stranded();
        let (row, _) = support::wait_for("it is in the list of the stranded", PATIENCE, look);
        assert_eq!((&row["reason"], &row["name"]), (&"RG-5004".into(), &"traveller".into()), "{row}");
        assert!(word(&row["advice"]).contains(&format!("device readmit {}", self.id)), "{row}");
        assert!(word(&row["place"]).contains("gateway"), "{row}");

        let readmitted = self.lab.operator(&["device", "readmit", &self.id]);
        assert_eq!(readmitted["client_id"], *self.id);
        let now = self.now();
        let seen = self.wait("readmitted by an operator: back by its key", |seen| {
            moment_or_none(&seen.status["self_prove_token"]["expires"]).is_some_and(|ends| ends > now)
                && seen.record["presence"] == "online"
                && seen.status["last_failure"].is_null()
        });
        assert!(seen.is_by("site token"));
        assert!(self.stranded().is_none());
    }

    fn end(mut self) {
        let verdict = self.lab.operator(&["audit", "verify"]);
        assert_eq!(verdict["ok"], true, "{verdict}");
        let rows = self.lab.operator(&["audit", "list", "--limit", "1000"]);
        let rows = rows.as_array().expect("rows");
        let registered = rows
            .iter()
            .filter(|row| row["action"] == "device.register" && row["subject"] == *self.id)
            .count();
        assert_eq!(registered, 1, "one record, made once");
        self.device.stop();
        println!("\n{}", self.timeline);
    }

    fn its_long_token_is_renewed_by_day(&mut self, day: i64) {
        let before = self.device.status()["self_prove_token"].clone();
        assert!(moment(word(&before["renew_from"])) < self.began + day * DAY, "{before}");
        self.sleep_until(day * DAY);
        self.wait("monthly renewal of its self-prove token", |seen| {
            seen.ends("self_prove_token") > word(&before["expires"])
        });
    }

    /// A fall from the certificate is on the record, with its reason, and an alarm.
    fn the_fall_is_seen(&self, seen: &Seen, why: &str) {
        assert!(seen.record["fell_back_at"].is_string(), "{}", seen.record);
        let not_used = &seen.record["methods_not_used"][0];
        assert_eq!(not_used["method"], "certificate", "{}", seen.record);
        let reason = word(&not_used["reason"]);
        assert!(!reason.is_empty() && reason.contains(why), "{reason}");
        let alarm = self.fallen_back().expect("an alarm");
        assert!(word(&alarm["text"]).contains("traveller"), "{alarm}");
        println!("{}\n  {}", word(&alarm["text"]), reason);
    }

    /// The alarm about devices that fell below their certificate.
    fn fallen_back(&self) -> Option<Value> {
        let output = self.lab.try_operator(&["alarms"]);
        let alarms: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        alarms.as_array().expect("rows").iter().find(|alarm| alarm["object"] == "fallen back").cloned()
    }

    fn stranded(&self) -> Option<Value> {
        let rows = self.lab.operator(&["device", "list", "--stranded"]);
        rows.as_array().expect("rows").iter().find(|row| row["client_id"] == *self.id).cloned()
    }

    fn publish_list(&mut self, revoked: &[u64]) {
        let list = self.organisation.list(revoked, self.now());
        self.lab.operator(&["trust", "crl", text(&list)]);
    }

    /// How many refusals of a gateway stand in the device's logs.
    fn refusals(&self) -> usize {
        self.device.log_lines("RG-12").len()
    }

    /// Seconds since the Unix epoch, as everybody in the lab counts them.
    fn now(&self) -> i64 {
        Clock::system().now_seconds() + self.offset
    }

    /// Time passes.
    fn pass(&mut self, seconds: i64) {
        self.offset += seconds;
        write_clock(&self.lab.clock(), self.offset);
    }

    /// Time passes until so many seconds after the beginning.
    fn go_to(&mut self, seconds: i64) {
        assert!(seconds > self.offset, "the story is past {} days", seconds / DAY);
        self.pass(seconds - self.offset);
    }

    /// The device is switched off until so many seconds after the beginning. The site is not: by the time that
    /// the device is back, it has fetched again what counts for a day only, and told its gateway.
    fn sleep_until(&mut self, seconds: i64) {
        self.device.stop();
        self.go_to(seconds);
        self.wait_for_the_site();
        self.device.start("2s");
    }

    fn wait_for_the_site(&self) {
        let now = self.now();
        // Its own certificate may have ended, too, in a time that it did not live through.
        let ask = |words: &[&str]| serde_json::from_slice::<Value>(&self.lab.try_operator(words).stdout).ok();
        support::wait_for("the site is up to date", PATIENCE, || {
            let tenants = ask(&["tenant", "list"])?;
            let keys = moment_or_none(&tenants[0]["keys_until"]).is_some_and(|until| until > now);
            let gateways = ask(&["gateway", "list"])?;
            (keys && gateways[0]["version"] == gateways[0]["site_version"]).then_some(())
        });
    }

    /// Waits until client and site show what is expected, and writes it into the timeline.
    fn wait(&mut self, event: &str, accept: impl Fn(&Seen) -> bool) -> Seen {
        let began = Instant::now();
        loop {
            let seen = Seen {
                status: self.device.status(),
                record: self.lab.operator(&["device", "show", &self.id]),
            };
            assert_eq!(seen.record["client_id"], *self.id);
            assert_eq!(seen.status["client_id"], *self.id, "the same device all along");
            if accept(&seen) {
                self.note(event, &seen, began.elapsed());
                return seen;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{}\nnever: {event}\nclient: {:#}\nsite: {:#}\n{}\n{}",
                self.timeline,
                seen.status,
                seen.record,
                self.device.tail("CcmExec.log", 8),
                self.device.tail("ClientIDManagerStartup.log", 12),
            );
            std::thread::sleep(LOOK);
        }
    }

    fn note(&mut self, event: &str, seen: &Seen, took: Duration) {
        let short = |text: &str| text.get(..16).unwrap_or("none").replace('T', " ");
        let now = Timestamp::from_seconds(self.now()).iso8601();
        let row = format!(
            "day {:>3}  {}  {event:<58} {:<13} by {:<9} CCM token until {:<16}  self-prove until {:<16} ({:.1} s)",
            self.offset / DAY,
            short(&now),
            seen.method(),
            seen.path(),
            short(seen.ends("ccm_token")),
            short(seen.ends("self_prove_token")),
            took.as_secs_f64(),
        );
        println!("{row}");
        let _ = writeln!(self.timeline, "{row}");
        if seen.method() != self.method {
            let reason = format!("         because: {}", word(&seen.record["method_reason"]));
            println!("{reason}");
            let _ = writeln!(self.timeline, "{reason}");
            seen.method().clone_into(&mut self.method);
        }
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn moment(text: &str) -> i64 {
    let moment: jiff::Timestamp = text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"));
    moment.as_second()
}

fn moment_or_none(value: &Value) -> Option<i64> {
    value.as_str().map(moment)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Copies the files of one folder into another.
fn copy(from: &Path, to: &Path) {
    for file in support::files_below(from) {
        let bytes = support::bytes_of(&file);
        runtime::config::private_file::write(to.join(file.file_name().expect("a name")), bytes)
            .expect("a file");
    }
}
