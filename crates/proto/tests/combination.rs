//! Every combination of mode, way, scenario, join and method, against the facts written out by hand.

use std::collections::BTreeSet;

use proto::combination::{Join, Mode, ROWS, Scenario, Verdict, Way, combinations, judge, judge_newcomer};
use proto::identity::Method;
use proto::reason::Reason;

/// What goes together: **c**ertificate, Entra **d**evice, Entra **u**ser, **s**ite token.
const EXPECTED: &str = "
    mode  way      scenario workgroup domain entra hybrid
    http  intranet device   ---s      ---s   ---s  ---s
    http  intranet user     ----      ----   ----  ----
    http  gateway  device   ----      ----   ----  ----
    http  gateway  user     ----      ----   ----  ----
    ehttp intranet device   c--s      c--s   cdus  cdus
    ehttp intranet user     ----      --u-   --u-  --u-
    ehttp gateway  device   c--s      c--s   cdus  cdus
    ehttp gateway  user     ----      --u-   --u-  --u-
    https intranet device   c--s      c--s   cdus  cdus
    https intranet user     ----      --u-   --u-  --u-
    https gateway  device   c--s      c--s   cdus  cdus
    https gateway  user     ----      --u-   --u-  --u-
";

/// Whether the table above lets it through.
fn is_expected(mode: Mode, way: Way, scenario: Scenario, join: Join, method: Method) -> bool {
    let line: Vec<&str> = EXPECTED
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|words| words.get(..3) == Some(&[mode.as_str(), way.as_str(), scenario.as_str()]))
        .expect("every mode, way and scenario has its line");
    let column = Join::ALL.iter().position(|one| *one == join).expect("a join");
    let letter = match method {
        Method::Certificate => 'c',
        Method::EntraDevice => 'd',
        Method::EntraUser => 'u',
        Method::SiteToken => 's',
    };
    line[3 + column].contains(letter)
}

#[test]
fn every_combination_is_judged_as_the_facts_say() {
    let mut allowed = 0;
    let all: Vec<_> = combinations().collect();
    for one in &all {
        let judged = judge(one.mode, one.method, Some(one.join), one.way, one.scenario);
        let expected = is_expected(one.mode, one.way, one.scenario, one.join, one.method);
        assert_eq!(judged.is_ok(), expected, "{one:?}");
        assert_eq!(judged, one.row.result());
        allowed += usize::from(expected);
    }
    assert_eq!(all.len(), 3 * 2 * 2 * 4 * 4);
    println!("{} combinations: {allowed} go together, {} do not", all.len(), all.len() - allowed);
}

/// "Internet client → MP reached through the gateway": each row allows these modes.
#[test]
fn the_table_of_clients_outside_holds_row_by_row() {
    let own = [Method::Certificate, Method::SiteToken];
    let entra = [Method::EntraDevice, Method::EntraUser];
    for (join, methods) in
        [(Join::Workgroup, &own), (Join::Domain, &own), (Join::Entra, &entra), (Join::Hybrid, &entra)]
    {
        for method in methods {
            for (mode, allowed) in [(Mode::Ehttp, true), (Mode::Https, true), (Mode::Http, false)] {
                let judged = judge(mode, *method, Some(join), Way::Gateway, Scenario::Device);
                assert_eq!(judged.is_ok(), allowed, "{join} {method} {mode}");
                if let Err(refused) = judged {
                    assert_eq!((refused.row.name, refused.reason), ("gateway-http", Reason::RoleInHttpMode));
                }
            }
        }
    }
}

/// "On-premises client → on-premises MP": with some method each row allows these modes.
#[test]
fn the_table_of_clients_inside_holds_row_by_row() {
    let any = |join, mode| {
        Method::PREFERENCE
            .iter()
            .any(|method| judge(mode, *method, Some(join), Way::Intranet, Scenario::Device).is_ok())
    };
    for join in Join::ALL {
        for mode in Mode::ALL {
            assert!(any(join, mode), "{join} {mode}: scenarios of the device go everywhere");
        }
    }
    for method in [Method::EntraDevice, Method::EntraUser] {
        let refused =
            judge(Mode::Http, method, Some(Join::Entra), Way::Intranet, Scenario::Device).unwrap_err();
        assert_eq!((refused.row.name, refused.reason), ("http-entra", Reason::MethodNotForMode));
    }
}

#[test]
fn the_code_of_a_refusal_follows_from_what_is_wrong() {
    for one in combinations() {
        let Err(refused) = judge(one.mode, one.method, Some(one.join), one.way, one.scenario) else {
            continue;
        };
        let expected = if one.mode == Mode::Http && one.way == Way::Gateway {
            Reason::RoleInHttpMode
        } else if one.scenario == Scenario::User && one.method != Method::EntraUser {
            Reason::UserPolicyNotForMethod
        } else {
            Reason::MethodNotForMode
        };
        assert_eq!(refused.reason, expected, "{one:?}");
        assert_eq!(refused.to_string(), one.row.fact);
    }
}

#[test]
fn a_join_that_is_not_told_counts_as_the_most_favourable_one() {
    for one in combinations() {
        let judge = |join| judge(one.mode, one.method, join, one.way, one.scenario);
        assert_eq!(judge(None).is_ok(), Join::ALL.iter().any(|join| judge(Some(*join)).is_ok()), "{one:?}");
    }
}

#[test]
fn every_row_decides_something_and_says_it_in_sentences() {
    let deciding: BTreeSet<&str> = combinations().map(|one| one.row.name).collect();
    let named: BTreeSet<&str> = ROWS.iter().map(|row| row.name).collect();
    assert_eq!(deciding, named, "no row is idle, none is missing, and no two have one name");
    assert_eq!(named.len(), ROWS.len());
    for row in ROWS {
        assert!(row.fact.ends_with('.') && !row.fact.contains("  "), "{}", row.fact);
        if let Verdict::Refused { fix, .. } = row.verdict {
            assert!(fix.ends_with('.') && !fix.contains("  "), "{fix}");
        }
    }
}

#[test]
fn a_newcomer_without_evidence_registers_inside_where_no_certificate_is_asked_for() {
    for (mode, way, allowed) in [
        (Mode::Http, Way::Intranet, true),
        (Mode::Ehttp, Way::Intranet, true),
        (Mode::Https, Way::Intranet, false),
        (Mode::Http, Way::Gateway, false),
        (Mode::Ehttp, Way::Gateway, false),
        (Mode::Https, Way::Gateway, false),
    ] {
        assert_eq!(judge_newcomer(mode, way).is_ok(), allowed, "{mode} {way}");
    }
}

#[test]
fn the_words_are_read_back() {
    for join in Join::ALL {
        assert_eq!(Join::parse(join.as_str()), Some(join));
    }
    for mode in Mode::ALL {
        assert_eq!(Mode::parse(mode.as_str()), Some(mode));
    }
    assert_eq!((Join::parse("Hybrid"), Mode::parse("")), (None, None));
}
