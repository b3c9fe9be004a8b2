//! The log as a whole: events in, files out.

use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tracing::subscriber::with_default;
use tracing::{debug, error, info, info_span, warn};

use super::*;

const AT: i64 = 1_774_276_200_123_456; // 2026-03-23 14:30:00.123456 UTC

const GATEWAY: ComponentSpec =
    ComponentSpec { component: "CMGService", file: "CMGService.log", format: Format::Simple };
const STS: ComponentSpec = ComponentSpec { component: "CCM_STS", file: "CCM_STS.log", format: Format::Ccm };

fn config(folder: &Path) -> LogConfig {
    LogConfig {
        folder: Some(folder.to_owned()),
        components: vec![STS],
        console: Console::Off,
        ..LogConfig::new(GATEWAY, Clock::manual(AT))
    }
}

/// What `events` leaves in the file of each component: the gateway's, the token service's.
fn logged(change: impl FnOnce(&mut LogConfig), events: impl FnOnce(&LogHandle)) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    change(&mut config);
    let (subscriber, handle) = start(config).unwrap();
    with_default(subscriber, || events(&handle));
    drop(handle);
    let read = |name| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    (read(GATEWAY.file), read(STS.file))
}

/// Everything before the number of the thread, which depends on the order of the tests.
fn before_thread(line: &str) -> &str {
    line.split("thread=").next().unwrap()
}

#[test]
fn both_formats_are_written_as_the_field_writes_them() {
    let (gateway, sts) = logged(
        |_| {},
        |_| {
            info!(shard = 3, peer = "10.0.0.1", "connection accepted");
            warn!(component = "CCM_STS", "token refused");
        },
    );
    assert_eq!(
        before_thread(&gateway),
        "connection accepted shard=3 peer=10.0.0.1~~  $$<CMGService><03-23-2026 14:30:00.123+00><"
    );
    let number = parse_line(&gateway).unwrap().thread.unwrap();
    assert!(gateway.ends_with(&format!("<thread={number} (0x{number:X})>\n")), "{gateway}");
    assert_eq!(
        before_thread(&sts),
        "<![LOG[token refused]LOG]!><time=\"14:30:00.123+000\" date=\"03-23-2026\" component=\"CCM_STS\" \
         context=\"\" type=\"2\" "
    );
    let line = parse_line(&sts).unwrap();
    assert!(line.source.unwrap().starts_with("tests.rs:"));
    assert_eq!(line.kind, Some(Kind::Warning));
}

#[test]
fn the_spans_around_give_request_id_and_component() {
    let (gateway, sts) = logged(
        |_| {},
        |_| {
            let outer = info_span!("admit", request_id = tracing::field::Empty);
            outer.record("request_id", tracing::field::display("0190-aa"));
            let _outer = outer.enter();
            info!("admitted");
            let _inner = info_span!("handle", component = "CCM_STS").entered();
            info!("issued");
            info!(component = "CMGService", request_id = "other", "counted");
        },
    );
    assert_eq!(parse_line(&sts).unwrap().message, "issued request_id=0190-aa");
    let messages: Vec<_> = gateway.lines().map(|line| parse_line(line).unwrap().message).collect();
    assert_eq!(messages, ["admitted request_id=0190-aa", "counted request_id=other"]);
}

#[test]
fn a_verbatim_line_is_the_message_and_nothing_else() {
    let (_, sts) = logged(
        |_| {},
        |_| {
            let _span = info_span!("handle", request_id = "r", component = "CCM_STS").entered();
            info!(verbatim = true, client = "c", "Return token to client");
        },
    );
    assert_eq!(parse_line(&sts).unwrap().message, "Return token to client");
}

#[test]
fn hostile_text_cannot_forge_a_line_or_end_its_own() {
    let forged = "x]LOG]!><time=\"\">\r\n<![LOG[forged]LOG]!>~~  $$<Other><a><thread=1>\u{1b}[2J";
    let (gateway, sts) = logged(
        |_| {},
        |_| {
            for component in ["CMGService", "CCM_STS"] {
                info!(component, name = forged, "device named");
                info!(component, "raw {forged}");
            }
            info!(component = "\"><x\n", "odd component");
        },
    );
    for file in [&gateway, &sts] {
        assert!(!file.contains('\u{1b}') && !file.contains('\r'), "{file}");
    }
    assert_eq!(gateway.lines().count(), 3, "{gateway}");
    for line in gateway.lines() {
        let component = parse_line(line).unwrap().component.unwrap();
        assert!(component == "CMGService" || component == "___x_", "{line}");
    }
    let pieces = parse_text(&sts);
    assert_eq!(pieces.len(), 2, "{sts}");
    for piece in pieces {
        let Pasted::Line(line) = piece else { panic!("{sts}") };
        assert_eq!(line.component.as_deref(), Some("CCM_STS"));
        assert!(line.time.is_some() && line.message.contains("forged"));
    }
}

#[test]
fn what_is_written_is_read_back() {
    let texts = [
        "",
        " ",
        "plain",
        "a\nb",
        "ends with ~~",
        "Grüße 你好",
        "a \"b\" <c> = d",
        "tab\there",
        "$$ <",
        "]LOG",
    ];
    for text in texts {
        let (gateway, sts) = logged(
            |_| {},
            |_| {
                info!(verbatim = true, "{text}");
                info!(verbatim = true, component = "CCM_STS", "{text}");
            },
        );
        let (simple, ccm) = (parse_line(&gateway).unwrap(), parse_line(&sts).unwrap());
        assert_eq!(ccm.message, text);
        assert_eq!(simple.message.trim(), text.replace('\n', "~").trim());
        assert_eq!((simple.time, ccm.time), (Some(AT - 456), Some(AT - 456)), "to the millisecond");
    }
}

#[test]
fn the_level_of_a_component_can_be_changed_while_running() {
    let write_all = || {
        debug!(component = "CCM_STS", "detail");
        error!(component = "CCM_STS", "grave");
        info!("usual");
    };
    let (gateway, sts) = logged(
        |_| {},
        |handle| {
            write_all();
            handle.set_level("CCM_STS", Level::Verbose).unwrap();
            assert_eq!(handle.levels(), [("CMGService", Level::Default), ("CCM_STS", Level::Verbose)]);
            write_all();
            handle.set_level("CCM_STS", Level::Errors).unwrap();
            write_all();
            assert!(handle.set_level("nobody", Level::Errors).is_err());
        },
    );
    let messages: Vec<_> = sts.lines().map(|line| parse_line(line).unwrap().message).collect();
    assert_eq!(messages, ["grave", "detail", "grave", "grave"]);
    assert_eq!(gateway.lines().count(), 3);
}

#[test]
fn a_warning_keeps_the_request_id_of_its_span_also_when_only_warnings_are_wanted() {
    let (gateway, _) = logged(
        |config| config.level = Level::Warnings,
        |_| {
            let _span = info_span!("admit", request_id = "r1").entered();
            info!("unwanted");
            warn!("wanted");
        },
    );
    assert_eq!(parse_line(&gateway).unwrap().message, "wanted request_id=r1");
}

#[test]
fn json_has_everything_and_stays_one_line() {
    let (gateway, _) = logged(
        |config| config.json = true,
        |_| {
            let _span = info_span!("admit", request_id = "r1").entered();
            info!(count = 3, done = true, name = "a\"b\\\n\u{1}", verbatim = true, "two\nlines");
        },
    );
    let expected = "{\"time\":\"2026-03-23T14:30:00.123456Z\",\"level\":\"info\",\"component\":\"CMGService\",\
                    \"message\":\"two\\nlines\",\"request_id\":\"r1\",\"fields\":{\"count\":3,\"done\":true,\
                    \"name\":\"a\\\"b\\\\\\n\\u0001\"},\"thread\":";
    assert!(gateway.starts_with(expected), "{gateway}");
    assert_eq!(gateway.lines().count(), 1);
}

/// Standard error for a test.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn people_get_a_line_on_the_console_without_any_folder() {
    let screen = Screen::default();
    let config = LogConfig::new(GATEWAY, Clock::manual(AT));
    let (subscriber, handle) = start_with(config, Box::new(screen.clone())).unwrap();
    with_default(subscriber, || warn!(role = "mp", "request not forwarded\nsecond line"));
    handle.flush();
    let text = String::from_utf8(screen.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text, "14:30:00.123 WARN  CMGService: request not forwarded\n    second line role=mp\n");
}

/// A console that takes nothing until it is released.
struct Stuck(Arc<Mutex<()>>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _wait = self.0.lock().unwrap();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_writer_that_is_stuck_costs_lines_and_never_holds_anybody_up() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Arc::new(Mutex::new(()));
    let config = LogConfig { console: Console::Text, max_size: 1 << 30, ..config(folder.path()) };
    let (subscriber, handle) = start_with(config, Box::new(Stuck(Arc::clone(&gate)))).unwrap();
    let held = gate.lock().unwrap();
    with_default(subscriber, || {
        for number in 0..10_000 {
            info!(number, "line");
        }
    });
    let lost = handle.lost();
    assert!(lost > 0 && lost < 10_000, "{lost}");
    drop(held);
    drop(handle);
    let text = fs::read_to_string(folder.path().join(GATEWAY.file)).unwrap();
    assert_eq!(text.lines().count() as u64, 10_000 - lost + 1);
    let told = parse_line(text.lines().last().unwrap()).unwrap().message;
    assert!(told.starts_with("log lines were lost") && told.ends_with(&format!(" lines={lost}")), "{told}");
}

#[test]
fn files_that_cannot_be_written_are_counted_and_used_again_when_they_can() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    let (subscriber, handle) = start(config(&logs)).unwrap();
    fs::remove_dir(&logs).unwrap();
    with_default(subscriber, || {
        info!("lost");
        handle.flush();
        assert_eq!(handle.lost(), 1, "lost lines count once, the line that tells of them does not");
        fs::create_dir(&logs).unwrap();
        info!("kept");
    });
    drop(handle);
    let text = fs::read_to_string(logs.join(GATEWAY.file)).unwrap();
    let messages: Vec<_> = text.lines().map(|line| parse_line(line).unwrap().message).collect();
    assert_eq!(messages.len(), 2, "{text}");
    assert!(messages[0] == "kept" && messages[1].ends_with("lines=1"), "{text}");
}

#[test]
fn errors_are_written_with_all_their_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("policy not read")]
    struct Outer(#[source] io::Error);

    let error = Outer(io::Error::other("disk\ngone"));
    assert_eq!(Chain(&error).to_string(), "policy not read: disk\ngone");
    let (gateway, _) = logged(
        |_| {},
        |_| {
            warn!(error = %Chain(&error), "one");
            warn!(error = &error as &dyn Error, "two");
        },
    );
    for line in gateway.lines() {
        assert!(line.contains(" error=\"policy not read: disk\\ngone\"~~"), "{line}");
    }
}

#[test]
fn a_folder_that_cannot_be_made_and_a_tiny_size_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(start(config(&file.join("logs"))), Err(LogInitError::Folder { .. })));
    let tiny = LogConfig { max_size: MIN_SIZE - 1, ..config(folder.path()) };
    assert!(matches!(start(tiny), Err(LogInitError::Size { .. })));
}

#[test]
fn stamps_come_from_the_injected_clock() {
    let clock = Clock::manual(AT);
    let (gateway, _) = logged(
        |config| config.clock = clock.clone(),
        |_| {
            info!("one");
            clock.advance(Duration::from_hours(24));
            info!("two");
        },
    );
    let times: Vec<_> = gateway.lines().map(|line| parse_line(line).unwrap().time.unwrap()).collect();
    assert_eq!(times[1] - times[0], 86_400_000_000);
}

/// One line by the short way, as [`verbatim`] writes it where the log is that of the process.
#[track_caller]
fn direct(handle: &LogHandle, component: &str, message: &str) -> bool {
    let mut write = Some(|out: &mut String| out.push_str(message));
    handle.direct.line(component, std::panic::Location::caller(), &mut write)
}

/// A file with every number of a source line left out.
fn without_source(text: &str) -> String {
    let mut rest = text;
    let mut out = String::new();
    while let Some((before, after)) = rest.split_once("tests.rs:") {
        out.push_str(before);
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out + rest
}

#[test]
fn a_line_by_the_short_way_is_byte_for_byte_the_same() {
    let long = "x".repeat(40_000);
    let messages = [
        "MessageID: 1 RequestURI: https://mp/x?a$b",
        "",
        "Grüße\ttwo\r\nlines\u{1b}[2J",
        "a $$<Forged><",
        "]LOG]!><![LOG[",
        &long,
    ];
    for json in [false, true] {
        let by = |way: &dyn Fn(&LogHandle, &'static str, &str)| {
            logged(
                |config| (config.json, config.max_size) = (json, 1 << 20),
                |handle| {
                    for message in messages {
                        way(handle, "CMGService", message);
                        way(handle, "CCM_STS", message);
                    }
                },
            )
        };
        let short = by(&|handle, component, message| assert!(direct(handle, component, message)));
        let long = by(&|_, component, message| info!(component, verbatim = true, "{message}"));
        assert_eq!(without_source(&short.0), without_source(&long.0));
        assert_eq!(without_source(&short.1), without_source(&long.1));
        assert!(!short.0.is_empty() && !short.1.is_empty());
    }
}

#[test]
fn both_ways_of_one_thread_keep_their_order_also_when_the_clock_is_set_back() {
    let clock = Clock::manual(AT);
    let (gateway, _) = logged(
        |config| config.clock = clock.clone(),
        |handle| {
            for number in 0..10 {
                clock.set(AT - number * 1_000_000);
                direct(handle, "CMGService", &format!("{number} short"));
                info!("{number} long");
            }
        },
    );
    let messages: Vec<_> = gateway.lines().map(|line| parse_line(line).unwrap().message).collect();
    let expected: Vec<_> = (0..10).flat_map(|n| [format!("{n} short"), format!("{n} long")]).collect();
    assert_eq!(messages, expected);
}

#[test]
fn lines_of_threads_that_have_ended_are_there_in_the_order_of_their_times() {
    let clock = Clock::manual(AT);
    let (gateway, _) = logged(
        |config| config.clock = clock.clone(),
        |handle| {
            for number in 0..20 {
                clock.advance(Duration::from_micros(1));
                let logged = thread::scope(|scope| {
                    scope.spawn(|| direct(handle, "CMGService", &number.to_string())).join().unwrap()
                });
                assert!(logged);
            }
        },
    );
    let messages: Vec<_> = gateway.lines().map(|line| parse_line(line).unwrap().message).collect();
    assert_eq!(messages, (0..20).map(|number: i32| number.to_string()).collect::<Vec<_>>());
}

#[test]
fn the_short_way_obeys_the_level_of_its_component_and_knows_no_other() {
    let (gateway, sts) = logged(
        |_| {},
        |handle| {
            assert!(direct(handle, "CCM_STS", "one"));
            handle.set_level("CCM_STS", Level::Warnings).unwrap();
            assert!(direct(handle, "CCM_STS", "unwanted"));
            let mut write = Some(|_: &mut String| panic!("nobody wants it"));
            assert!(handle.direct.line("CCM_STS", std::panic::Location::caller(), &mut write));
            handle.set_level("CCM_STS", Level::Default).unwrap();
            assert!(direct(handle, "CCM_STS", "two"));
            assert!(!direct(handle, "Other", "goes the long way"));
        },
    );
    let messages: Vec<_> = sts.lines().map(|line| parse_line(line).unwrap().message).collect();
    assert_eq!((messages, gateway.as_str()), (vec!["one".to_owned(), "two".to_owned()], ""));
}

/// A console that tells a test what it shows.
struct Told(mpsc::Sender<String>);

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_line_of_a_thread_that_says_nothing_more_is_written_all_the_same() {
    let (sender, shown) = mpsc::channel();
    let config = LogConfig::new(GATEWAY, Clock::manual(AT));
    let (_subscriber, handle) = start_with(config, Box::new(Told(sender))).unwrap();
    for round in ["one", "two"] {
        direct(&handle, "CMGService", round);
        let line = shown.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(line, format!("14:30:00.123 INFO  CMGService: {round}\n"));
    }
}

#[test]
fn a_message_may_log_while_it_is_made() {
    let (gateway, _) = logged(
        |_| {},
        |handle| {
            let mut write = Some(|out: &mut String| {
                out.push_str("outer");
                direct(handle, "CMGService", "inner");
            });
            handle.direct.line("CMGService", std::panic::Location::caller(), &mut write);
        },
    );
    let messages: Vec<_> = gateway.lines().map(|line| parse_line(line).unwrap().message).collect();
    assert_eq!(messages, ["inner", "outer"]);
}

#[test]
fn what_is_logged_after_the_end_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let (_subscriber, handle) = start(config(folder.path())).unwrap();
    let late = handle.direct.clone();
    direct(&handle, "CMGService", "in time");
    drop(handle);
    let mut write = Some(|out: &mut String| out.push_str("late"));
    assert!(late.line("CMGService", std::panic::Location::caller(), &mut write));
    let text = fs::read_to_string(folder.path().join(GATEWAY.file)).unwrap();
    assert_eq!(text.lines().count(), 1);
}
