//! RSA keys for simulated devices, by the thousand and quickly.
//!
//! Making a prime is what costs time, so few primes are made and every pair of them gives a
//! key: 64 primes give 2,016. Keys that share primes are worthless as secrets and as good as
//! any other for what is simulated here.

use std::sync::OnceLock;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use num_bigint::BigUint;

/// Primes to begin with; their pairs are the pool.
const PRIMES: usize = 64;

/// PKCS#8 of the key with this number, 0 to 2,015.
pub(crate) fn key(number: usize) -> Vec<u8> {
    let primes = primes();
    let mut left = number;
    for first in 0..PRIMES {
        let pairs = PRIMES - 1 - first;
        if left < pairs {
            return compose(&primes[first], &primes[first + 1 + left]);
        }
        left -= pairs;
    }
    panic!("the pool has {} keys", PRIMES * (PRIMES - 1) / 2);
}

fn primes() -> &'static [BigUint] {
    static POOL: OnceLock<Vec<BigUint>> = OnceLock::new();
    POOL.get_or_init(|| {
        let make = || {
            let pair = KeyPair::generate(KeySize::Rsa2048).expect("a key is made");
            let der: Pkcs8V1Der<'_> = pair.as_der().expect("a key has a DER form");
            primes_of(der.as_ref())
        };
        let workers: Vec<_> = (0..2)
            .map(|_| std::thread::spawn(move || (0..PRIMES / 4).flat_map(|_| make()).collect::<Vec<_>>()))
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("keys are made")).collect()
    })
}

/// The two primes of a PKCS#8 RSA key: the fourth and fifth integers behind its version.
fn primes_of(pkcs8: &[u8]) -> [BigUint; 2] {
    // PrivateKeyInfo: SEQUENCE { version, algorithm, OCTET STRING { RSAPrivateKey } }.
    let (info, _) = element(pkcs8);
    let (_, rest) = element(info);
    let (_, rest) = element(rest);
    let (octets, _) = element(rest);
    let (mut fields, _) = element(octets);
    let mut integers = Vec::new();
    while !fields.is_empty() {
        let (integer, rest) = element(fields);
        integers.push(BigUint::from_bytes_be(integer));
        fields = rest;
    }
    [integers[4].clone(), integers[5].clone()]
}

/// Content of the first DER element, and what follows it.
fn element(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, header) = match der[1] {
        short if short < 0x80 => (usize::from(short), 2),
        long => {
            let bytes = usize::from(long & 0x7f);
            (der[2..2 + bytes].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), 2 + bytes)
        }
    };
    (&der[header..header + length], &der[header + length..])
}

fn compose(p: &BigUint, q: &BigUint) -> Vec<u8> {
    let (p, q) = if p > q { (p, q) } else { (q, p) };
    let one = BigUint::from(1_u8);
    let e = BigUint::from(65_537_u32);
    let d = e.modinv(&((p - &one) * (q - &one))).expect("e is prime to both");
    let integers = [
        BigUint::ZERO,
        p * q,
        e,
        d.clone(),
        p.clone(),
        q.clone(),
        &d % (p - &one),
        &d % (q - &one),
        q.modinv(p).expect("different primes"),
    ];
    let fields: Vec<u8> = integers.iter().flat_map(integer).collect();
    let key = tagged(0x30, &fields);
    // rsaEncryption with NULL parameters.
    let algorithm = [0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    let info = [integer(&BigUint::ZERO), algorithm.to_vec(), tagged(4, &key)].concat();
    tagged(0x30, &info)
}

fn integer(value: &BigUint) -> Vec<u8> {
    let mut bytes = value.to_bytes_be();
    if bytes[0] & 0x80 != 0 {
        bytes.insert(0, 0);
    }
    tagged(2, &bytes)
}

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut der = vec![tag];
    if let Ok(short @ 0..0x80) = u8::try_from(length) {
        der.push(short);
    } else {
        let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        der.push(0x80 | u8::try_from(bytes.len()).expect("at most eight"));
        der.extend(bytes);
    }
    der.extend(content);
    der
}
