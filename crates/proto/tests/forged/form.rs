//! Attacks on the text: cut, longer, other characters, other encodings, other signatures.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proto::limits;
use serde_json::{Value, json};

use super::{Forged, Genuine, object, with};

pub(super) fn forgeries(genuine: &Genuine<'_>) -> Vec<Forged> {
    let good = genuine.text();
    let mut list = Vec::new();
    let mut add = |what: String, text: String| list.push(Forged { what, text, signed: false });
    cut_and_changed(&good, &mut add);
    wrapped(&good, &mut add);
    parts(&good, &mut add);
    other_signatures(genuine, &good, &mut add);
    too_long(genuine, &mut add);
    list
}

/// Cut short, and one character another.
fn cut_and_changed(good: &str, add: &mut impl FnMut(String, String)) {
    let dots: Vec<usize> = good.match_indices('.').map(|(at, _)| at).collect();
    let mut cuts = vec![0, 1, dots[0], dots[0] + 1, dots[1], dots[1] + 1, good.len() - 2, good.len() - 1];
    cuts.extend((40..good.len() - 2).step_by(61));
    cuts.sort_unstable();
    cuts.dedup();
    for at in cuts {
        add(format!("cut after {at} characters"), good[..at].to_owned());
    }
    for at in (0..good.len()).step_by(37).filter(|at| !dots.contains(at)) {
        let other = if &good[at..=at] == "A" { "B" } else { "A" };
        add(format!("character {at} changed"), format!("{}{other}{}", &good[..at], &good[at + 1..]));
    }
    for at in [1, dots[0] + 1, dots[1] + 1] {
        add(format!("character {at} taken out"), format!("{}{}", &good[..at], &good[at + 1..]));
    }
}

/// Something before, behind or around the whole.
fn wrapped(good: &str, add: &mut impl FnMut(String, String)) {
    for extra in
        [" ", "\t", "\n", "\r\n", "\0", "=", "==", ".", "..", ",", ";", "A", "\u{feff}", "\u{a0}", "%20"]
    {
        add(format!("{extra:?} in front"), format!("{extra}{good}"));
        add(format!("{extra:?} behind"), format!("{good}{extra}"));
    }
    let pieces: Vec<&str> = good.split('.').collect();
    let json = json!({"protected": pieces[0], "payload": pieces[1], "signature": pieces[2]});
    let general =
        json!({"payload": pieces[1], "signatures": [{"protected": pieces[0], "signature": pieces[2]}]});
    for (what, text) in [
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
        ("in quotes", format!("\"{good}\"")),
        ("twice", format!("{good}{good}")),
        ("twice with a dot", format!("{good}.{good}")),
        ("with its scheme", format!("Bearer {good}")),
        ("as base64", STANDARD.encode(good)),
        ("percent-encoded dots", good.replace('.', "%2E")),
        ("dots of another script", good.replace('.', "\u{ff0e}")),
        ("commas for dots", good.replace('.', ",")),
        ("flattened JSON", json.to_string()),
        ("general JSON", general.to_string()),
        ("in upper case", good.to_ascii_uppercase()),
        ("in lower case", good.to_ascii_lowercase()),
        ("backwards", good.chars().rev().collect()),
    ] {
        add(what.to_owned(), text);
    }
}

/// Each part in another spelling, left out, or in another place.
fn parts(good: &str, add: &mut impl FnMut(String, String)) {
    let pieces: Vec<&str> = good.split('.').collect();
    let names = ["header", "claims", "signature"];
    for (place, name) in names.iter().enumerate() {
        let mut put = |what: &str, part: String| {
            let mut changed: Vec<String> = pieces.iter().map(|piece| (*piece).to_owned()).collect();
            changed[place] = part;
            add(format!("{name} {what}"), changed.join("."));
        };
        let piece = pieces[place];
        let bytes = URL_SAFE_NO_PAD.decode(piece).unwrap();
        put("empty", String::new());
        put("padded", format!("{piece}="));
        put("padded twice", format!("{piece}=="));
        put("padded thrice", format!("{piece}==="));
        put("with a space", format!("{} {}", &piece[..4], &piece[4..]));
        put("with a line end", format!("{}\n{}", &piece[..4], &piece[4..]));
        put("with a stray character", format!("{}!{}", &piece[..4], &piece[4..]));
        put("with a plus", format!("{}+{}", &piece[..4], &piece[5..]));
        put("with a slash", format!("{}/{}", &piece[..4], &piece[5..]));
        put("with a letter that is no letter", format!("{}\u{430}{}", &piece[..4], &piece[4..]));
        put("in standard base64", STANDARD.encode(&bytes));
        put("as a number", num_bigint::BigUint::from_bytes_be(&bytes).to_string());
        put("encoded twice", URL_SAFE_NO_PAD.encode(piece));
        if let Some(last) = stray_bits(piece) {
            put("with stray bits", last);
        }
        let mut missing = pieces.clone();
        missing.remove(place);
        add(format!("no {name}"), missing.join("."));
        add(format!("{name} twice"), [&pieces[..=place], &pieces[place..]].concat().join("."));
    }
    for order in [[0, 2, 1], [1, 0, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
        add(format!("parts in the order {order:?}"), order.map(|place| pieces[place]).join("."));
    }
}

/// The same bytes with unused bits set in the last character.
fn stray_bits(piece: &str) -> Option<String> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (rest, last) = piece.split_at(piece.len() - 1);
    let value = ALPHABET.find(last)?;
    (!piece.len().is_multiple_of(4)).then(|| format!("{rest}{}", &ALPHABET[value + 1..value + 2]))
}

/// Signatures of nobody, of somebody else, and of this key over something else or in another way.
fn other_signatures(genuine: &Genuine<'_>, good: &str, add: &mut impl FnMut(String, String)) {
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let right = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let other_claims = with(&genuine.claims, "extra", Some(json!(1)));
    let of_another = genuine.sealed(object(&genuine.header).as_bytes(), object(&other_claims).as_bytes());
    let mut backwards = right.clone();
    backwards.reverse();
    let mut one_bit = right.clone();
    one_bit[128] ^= 1;
    for (what, bytes) in [
        ("a stranger's", genuine.stranger.rs256(signed.as_bytes())),
        ("over the header alone", genuine.key.rs256(signed.split_once('.').unwrap().0.as_bytes())),
        ("over the claims alone", genuine.key.rs256(signed.split_once('.').unwrap().1.as_bytes())),
        ("with SHA-384", genuine.key.rs384(signed.as_bytes())),
        ("with PSS", genuine.key.ps256(signed.as_bytes())),
        ("all zeros", vec![0; right.len()]),
        ("all ones", vec![0xFF; right.len()]),
        ("the number one", [vec![0; right.len() - 1], vec![1]].concat()),
        ("one byte", vec![0]),
        ("a byte shorter", right[1..].to_vec()),
        ("a byte longer", [&right[..], &[0]].concat()),
        ("with a zero in front", [&[0], &right[..]].concat()),
        ("twice as long", [&right[..], &right[..]].concat()),
        ("backwards", backwards),
        ("with one bit flipped", one_bit),
        ("16 kilobytes long", vec![7; limits::TOKEN_BYTES]),
    ] {
        add(format!("signature {what}"), format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes)));
    }
    let borrowed = of_another.rsplit_once('.').unwrap().1;
    add("signature of another token".to_owned(), format!("{signed}.{borrowed}"));
}

/// Well signed, and longer than any token may be.
fn too_long(genuine: &Genuine<'_>, add: &mut impl FnMut(String, String)) {
    for bytes in [limits::TOKEN_BYTES, 1_000_000] {
        let padded = |members| object(&with(members, "padding", Some(Value::from("x".repeat(bytes)))));
        let (header, claims) = (object(&genuine.header), object(&genuine.claims));
        add(
            format!("{bytes} bytes more in the claims"),
            genuine.sealed(header.as_bytes(), padded(&genuine.claims).as_bytes()),
        );
        add(
            format!("{bytes} bytes more in the header"),
            genuine.sealed(padded(&genuine.header).as_bytes(), claims.as_bytes()),
        );
    }
}
