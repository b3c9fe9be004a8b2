//! Attacks on the claims, every one of them signed by the good key.

use serde_json::{Value, json};

use super::header::{broken_utf8, swap_case};
use super::{Attacked, Forged, Genuine, Members, object, with};

pub(super) fn forgeries(genuine: &Genuine<'_>) -> Vec<Forged> {
    let mut list = Vec::new();
    for attacked in &genuine.attacked {
        list.extend(on_claim(genuine, attacked));
    }
    list.extend(spellings(genuine));
    list
}

fn sealed(genuine: &Genuine<'_>, what: String, claims: &[u8]) -> Forged {
    let text = genuine.sealed(object(&genuine.header).as_bytes(), claims);
    Forged { what, text, signed: true }
}

fn on_claim(genuine: &Genuine<'_>, attacked: &Attacked) -> Vec<Forged> {
    let name = attacked.name;
    let place = genuine.claims.iter().position(|(one, _)| one == name);
    let good = place.map(|place| genuine.claims[place].1.clone());
    let mut values = vec![json!(null), json!(true), json!([]), json!({}), json!("")];
    values.extend(attacked.others.iter().cloned());
    match &good {
        Some(Value::String(text)) if attacked.exact => values.extend(texts_like(text)),
        Some(Value::Number(number)) => values.extend(numbers_like(number.as_i64().unwrap_or_default())),
        _ => {}
    }
    if let Some(good) = &good {
        values.extend([json!([good]), json!([good, "other"]), json!([[good]]), json!({"value": good})]);
    }
    let mut list: Vec<Forged> = values
        .into_iter()
        .map(|value| {
            let what = format!("{name} is {}", value.to_string().chars().take(60).collect::<String>());
            let claims = with(&genuine.claims, name, Some(value));
            sealed(genuine, what, object(&claims).as_bytes())
        })
        .collect();
    if let (Some(good), Some(place)) = (good, place) {
        let mut missing = with(&genuine.claims, name, None);
        if attacked.required {
            list.push(sealed(genuine, format!("no {name}"), object(&missing).as_bytes()));
            missing.push((swap_case(name), good.clone()));
            list.push(sealed(genuine, format!("{name} in the other case"), object(&missing).as_bytes()));
        }
        let doubled = |first: &Value, second: &Value| -> Members {
            let mut claims = genuine.claims.clone();
            claims[place].1 = first.clone();
            claims.push((name.to_owned(), second.clone()));
            claims
        };
        let other = attacked.others.first().cloned().unwrap_or_else(|| json!("other"));
        for (what, first, second) in [
            ("alike", &good, &good),
            ("the good one first", &good, &other),
            ("the good one last", &other, &good),
        ] {
            let claims = object(&doubled(first, second));
            list.push(sealed(genuine, format!("{name} twice, {what}"), claims.as_bytes()));
        }
    }
    list
}

/// Texts that a loose comparison takes for this one.
fn texts_like(good: &str) -> Vec<Value> {
    let mut texts = vec![
        format!(" {good}"),
        format!("{good} "),
        format!("{good}\0"),
        format!("{good}\n"),
        format!("x{good}"),
        format!("{good}x"),
        format!("{good}/"),
        format!("{good}.example.org"),
        format!("{{{good}}}"),
        format!("{good},other"),
        good.chars().skip(1).collect(),
        good.chars().take(good.chars().count() - 1).collect(),
        good.replacen('e', "\u{435}", 1),
        "*".to_owned(),
        ".*".to_owned(),
        "%".to_owned(),
    ];
    if swap_case(good) != good {
        texts.push(swap_case(good));
    }
    texts.retain(|text| text != good);
    texts.into_iter().map(Value::from).collect()
}

/// What looks like this number and is none.
fn numbers_like(good: i64) -> Vec<Value> {
    vec![
        json!(good.to_string()),
        json!(format!("{good}.0")),
        json!("tomorrow"),
        // Written as 1700000000.5 and 1.7e300: no integers.
        json!(f64::from(i32::MAX) + 0.5),
        json!(1.7e300),
        json!(u64::MAX),
    ]
}

/// JSON that is not what it should be, or not only that.
fn spellings(genuine: &Genuine<'_>) -> Vec<Forged> {
    let good = object(&genuine.claims);
    let inside = &good[1..good.len() - 1];
    let values: Vec<String> = genuine.claims.iter().map(|(_, value)| value.to_string()).collect();
    let deep = |open: &str, close: &str, levels: usize| {
        format!(r#"{{{inside},"x":{}1{}}}"#, open.repeat(levels), close.repeat(levels))
    };
    let texts = [
        ("an unknown claim twice", format!(r#"{{{inside},"x":1,"x":1}}"#)),
        ("a claim twice, once escaped", format!(r#"{{{inside},"\u0065xp":1}}"#)),
        ("a member twice deep inside", format!(r#"{{{inside},"x":{{"y":[{{"z":1,"z":1}}]}}}}"#)),
        ("a list of the values", format!("[{}]", values.join(","))),
        ("a list with the claims in it", format!("[{good}]")),
        ("a text", Value::from(good.as_str()).to_string()),
        ("null", "null".to_owned()),
        ("an empty object", "{}".to_owned()),
        ("nothing", String::new()),
        ("text behind", format!("{good}x")),
        ("a second object behind", format!("{good}{good}")),
        ("NUL behind", format!("{good}\0")),
        ("a byte order mark in front", format!("\u{feff}{good}")),
        ("a comma too many", format!("{{{inside},}}")),
        ("a comment", format!("{{{inside}/* x */}}")),
        ("single quotes", good.replace('"', "'")),
        ("no end", good[..good.len() - 1].to_owned()),
        ("half a surrogate pair", format!(r#"{{{inside},"x":"\udfff"}}"#)),
        ("a raw line end in a text", format!("{{{inside},\"x\":\"\n\"}}")),
        ("a number out of range", format!(r#"{{{inside},"x":-1e999}}"#)),
        ("a number with a zero in front", format!(r#"{{{inside},"x":01}}"#)),
        ("17 lists", deep("[", "]", 16)),
        ("17 objects", deep(r#"{"y":"#, "}", 16)),
        ("500 lists", deep("[", "]", 500)),
        ("1,000 objects", deep(r#"{"y":"#, "}", 1_000)),
    ];
    let mut list: Vec<Forged> = texts
        .into_iter()
        .map(|(what, claims)| sealed(genuine, format!("claims: {what}"), claims.as_bytes()))
        .collect();
    list.extend(
        broken_utf8(&good)
            .into_iter()
            .map(|(what, claims)| sealed(genuine, format!("claims: {what}"), &claims)),
    );
    list
}
