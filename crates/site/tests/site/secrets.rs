use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use site::{Evidence, NewBulkToken, NewConnector, NewGateway, NewPolicy, PolicyProtection};

use crate::support::{TestSite, anna, device};

/// Every file of the site but the key files, read whole.
fn stored(dir: &Path) -> Vec<u8> {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let database = files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("site.db"));
    database.flat_map(|path| std::fs::read(path).unwrap()).collect()
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// The spellings in which a secret could lie there.
fn spellings(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex = proto::text::hex::encode(secret);
    let wide: Vec<u8> = secret.iter().flat_map(|byte| [*byte, 0]).collect();
    vec![
        secret.to_vec(),
        hex.to_lowercase().into_bytes(),
        hex.into_bytes(),
        STANDARD.encode(secret).into_bytes(),
        URL_SAFE_NO_PAD.encode(secret).into_bytes(),
        wide,
    ]
}

#[tokio::test]
async fn the_database_holds_no_private_key_no_token_no_operator_key_and_no_secret_policy() {
    let test = TestSite::new().await;
    let bulk = test.site.create_bulk_token(&anna(), NewBulkToken::default()).await.unwrap().text;
    let id = test.site.register_client(None, device(1), Evidence::None).await.unwrap().client_id;
    let self_prove = test.site.confirm_registration(None, id, "", true).await.unwrap().token;
    let canary = "CANARY-5fd1c2";
    let secret = NewPolicy {
        id: None,
        category: String::new(),
        protection: PolicyProtection::Secret,
        rules: format!("<PolicyRule>{canary}</PolicyRule>"),
        collection: None,
    };
    let policy = test.site.add_policy(&anna(), secret).await.unwrap();
    let gateway = NewGateway { name: "g".into(), host: "g".into(), address: "g:443".into() };
    let gateway = test.site.add_gateway(&anna(), gateway).await.unwrap();
    let connector = NewConnector { name: "c".into(), site_links: vec!["s:1".into()] };
    let connector = test.site.add_connector(&anna(), connector).await.unwrap();
    let body = test.site.find_policy_body(&policy.id, &policy.version).await.unwrap().unwrap();
    assert!(
        holds(&body.bytes, &spellings(canary.as_bytes())[5]),
        "it is served in the clear to be encrypted"
    );

    let key = test.operator_key();
    let dir = test.dir.path().to_owned();
    test.site.close().await;
    let stored = stored(&dir);
    assert!(holds(&stored, b"SMS Issuing"), "certificates are there");

    // A PKCS#8 RSA or P-256 key has its algorithm's identifier after `02 01 00 30`.
    let rsa =
        [0x02, 0x01, 0x00, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    let p256 = [0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    for header in [rsa.as_slice(), &p256] {
        assert!(!holds(&stored, header), "a private key in the clear");
    }
    let link_keys = [&gateway.link.key_pem, &connector.link.key_pem];
    let lines = link_keys.iter().flat_map(|pem| pem.lines().filter(|line| !line.starts_with('-')));
    for line in lines.filter(|line| line.len() >= 16) {
        assert!(!holds(&stored, line.as_bytes()), "a link key");
    }
    let parts = [&bulk, &self_prove].into_iter().flat_map(|token| token.split('.').skip(1));
    for part in parts {
        assert!(!holds(&stored, part.as_bytes()), "a part of a token");
        assert!(!holds(&stored, &URL_SAFE_NO_PAD.decode(part).unwrap()), "a part of a token, decoded");
    }
    for secret in [key.as_bytes(), key.trim_start_matches("rgop_").as_bytes(), canary.as_bytes()] {
        for spelling in spellings(secret) {
            assert!(!holds(&stored, &spelling), "{}", String::from_utf8_lossy(&spelling));
        }
    }
}

#[tokio::test]
async fn nothing_that_can_be_printed_prints_a_secret() {
    let test = TestSite::new().await;
    let made = test.site.create_bulk_token(&anna(), NewBulkToken::default()).await.unwrap();
    let operator = test.site.create_operator(&anna(), "bert").await.unwrap();
    let printed = format!("{made:?} {operator:?} {:?}", test.site);
    assert!(!printed.contains(made.text.split('.').nth(2).unwrap()));
    assert!(!printed.contains(operator.key.as_str()));
    let audit = test.site.list_audit(None, 100).await.unwrap();
    let audit = serde_json::to_string(&audit).unwrap();
    assert!(!audit.contains(made.text.split('.').nth(1).unwrap()) && !audit.contains(operator.key.as_str()));
}
