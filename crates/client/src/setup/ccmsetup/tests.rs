use super::*;

const GATEWAY: &str = "contoso.cloudapp.net/CCM_Proxy_MutualAuth/72186325152220500";
const TOKEN: &str = "eyJ0eXAiOiJKV1QifQ.eyJleHAiOjF9.c2ln";

/// As a shell would hand it over.
fn line(text: &str) -> Result<SetupOptions, SetupLineError> {
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    parse(&words)
}

fn gateways(options: &SetupOptions) -> Vec<String> {
    options.gateways.iter().map(ToString::to_string).collect()
}

#[test]
fn the_published_line_is_taken_in_any_case_and_order_and_in_quotes() {
    let published = format!(
        "ccmsetup.exe /mp:https://CONTOSO.CLOUDAPP.NET/CCM_Proxy_MutualAuth/72186325152220500 \
         CCMHOSTNAME=CONTOSO.CLOUDAPP.NET/CCM_Proxy_MutualAuth/72186325152220500 SMSSITECODE=ABC \
         SMSMP=https://mp1.contoso.com /regtoken:{TOKEN}"
    );
    let reversed: Vec<&str> = published.split(' ').rev().collect();
    let shouted = published
        .replace("/mp:", "/MP:")
        .replace("/regtoken:", "/RegToken:")
        .replace("SMSSITECODE", "SmsSiteCode")
        .replace("SMSMP", "smsmp")
        .replace("ccmsetup.exe", r"C:\Temp\CCMSetup.exe");
    let quoted_values = published
        .replace("SMSSITECODE=ABC", "SMSSITECODE=\"ABC\"")
        .replace("CCMHOSTNAME=", "CCMHOSTNAME=\u{201C}")
        + "";
    let forms: Vec<Vec<String>> = vec![
        published.split(' ').map(str::to_owned).collect(),
        reversed.iter().map(|word| (*word).to_owned()).collect(),
        shouted.split(' ').map(str::to_owned).collect(),
        quoted_values.split(' ').map(str::to_owned).collect(),
        vec![published.clone()],
        vec![format!("CCMSETUPCMD=\"{}\"", published.replace("ccmsetup.exe ", ""))],
        vec!["msiexec".into(), "/i".into(), "ccmsetup.msi".into(), format!("CCMSETUPCMD={published}")],
        published
            .replace("/mp:", "/mp: ")
            .replace("/regtoken:", "/regtoken: ")
            .split(' ')
            .map(str::to_owned)
            .collect(),
        published.replace(' ', "\u{a0}").split('\u{a0}').map(|word| format!(" {word}\u{200b}")).collect(),
    ];
    for form in forms {
        let options = parse(&form).unwrap_or_else(|error| panic!("{form:?}: {error}"));
        assert_eq!(gateways(&options), [GATEWAY], "{form:?}");
        assert_eq!(options.inside, ["https://mp1.contoso.com".parse().unwrap()], "{form:?}");
        assert_eq!(options.site_code.unwrap().to_string(), "ABC", "{form:?}");
        assert_eq!(options.token.as_ref().map(TokenText::expose), Some(TOKEN), "{form:?}");
    }
}

#[test]
fn an_empty_mp_is_no_mistake_by_itself() {
    let options =
        line(&format!("ccmsetup.exe /mp: SMSSiteCode=GER SMSMP=https://mp.contoso.com /regtoken:{TOKEN}"))
            .unwrap();
    assert!(options.gateways.is_empty());
    assert_eq!(options.inside.len(), 1);
    assert_eq!(options.site_code.unwrap().to_string(), "GER");
}

#[test]
fn addresses_go_where_they_belong_whatever_they_were_given_to() {
    let options = line(&format!("/mp:mp1.contoso.com;https://{GATEWAY} SMSMP=https://{GATEWAY}")).unwrap();
    assert_eq!((gateways(&options), options.inside.len()), (vec![GATEWAY.to_owned()], 1));
    let options = line("SMSMPLIST=mp1;mp2,mp1").unwrap();
    assert_eq!(options.inside.len(), 2);
    let options = line(&format!("CCMHOSTNAME=https://{GATEWAY};gw2/CCM_Proxy_MutualAuth/7")).unwrap();
    assert_eq!(options.gateways.len(), 2);
}

#[test]
fn the_rest_of_the_published_words_does_what_it_says() {
    let options = line("SMSROOTKEYPATH=C:\\root.key RESETKEYINFORMATION=true CCMALWAYSINF=1").unwrap();
    assert_eq!(options.root_key, Some(RootKey::File("C:\\root.key".into())));
    assert!(options.reset_key && options.always_internet);
    let options = line("SMSPUBLICROOTKEY=0602 CCMALWAYSINF=0").unwrap();
    assert_eq!(options.root_key, Some(RootKey::Hex("0602".into())));
    assert!(!options.always_internet);
    assert!(matches!(line("CCMALWAYSINF=maybe"), Err(SetupLineError::Value { .. })));
}

#[test]
fn what_does_nothing_here_is_named_with_its_reason_and_without_its_value() {
    let options = line("/source:C:\\secret FSP=host /unheardof:secret WHATEVER=secret").unwrap();
    let words: Vec<_> = options.notes.iter().map(|note| note.word.as_str()).collect();
    assert_eq!(words, ["/source", "FSP", "/unheardof", "WHATEVER"]);
    assert!(options.notes.iter().all(|note| !note.hint.is_empty() && !note.word.contains("secret")));
}

#[test]
fn ways_to_prove_the_device_are_taken_as_they_are_pasted() {
    let tenant = "9aaf466a-3f40-4468-b3cd-f0010f21f05a";
    let options = parse(&[
        "ccmsetup.exe",
        "/UsePKICert",
        "/NoCRLCheck",
        "CCMFIRSTCERT=1",
        "CCMCERTNAMECHECK=0",
        "CCMCERTSTORE=/etc/pki/machine",
        "CCMCERTSEL=SubjectStr:contoso.com",
        "CCMCERTISSUERS=CN=Contoso Root CA; OU=Servers; O=Contoso, Ltd; C=US | CN=Other Root",
        &format!("AADTENANTID={}", tenant.to_uppercase()),
        "AADCLIENTAPPID=0b7c8ab3-9ea1-4ffa-b2b9-8ffdd944bd8b",
        "AADRESOURCEURI=https://ConfigMgrService",
    ])
    .unwrap();
    let proof = &options.proof;
    assert!(proof.use_pki_certificate && proof.no_crl_check && options.notes.is_empty());
    assert!(proof.selection.first && proof.selection.any_name && proof.selection.select.is_some());
    assert_eq!(proof.selection.issuers.len(), 2);
    assert_eq!(proof.certificate_store.as_deref(), Some(std::path::Path::new("/etc/pki/machine")));
    assert_eq!(proof.tenant.unwrap().to_string(), tenant);
    assert_eq!(proof.resource.as_deref(), Some("https://ConfigMgrService"));
    // The whole line in one piece of text, with the quotes of the field.
    let text = format!(
        "ccmsetup.exe CCMCERTISSUERS=\"CN=Contoso Root CA; O=Contoso\" CCMCERTSEL=\"SubjectAttr:OU = Computers\" CCMHOSTNAME={GATEWAY}"
    );
    let options = parse(&[text]).unwrap();
    assert_eq!(options.proof.selection.issuers.len(), 1);
    assert!(options.proof.selection.select.is_some() && options.gateways.len() == 1);
    for wrong in
        ["CCMCERTSEL=nothing", "CCMCERTISSUERS=nothing", "AADTENANTID=common", "CCMFIRSTCERT=perhaps"]
    {
        assert!(line(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn misspelt_words_that_matter_are_refused_with_what_was_meant() {
    for (text, meant) in [
        ("/regtokn:x", "/regtoken"),
        ("/reg-token:x", "/regtoken"),
        ("CCMHOSTNAM=x", "CCMHOSTNAME"),
        ("SMSITECODE=ABC", "SMSSITECODE"),
        ("SMSSITECODE:ABC", "SMSSITECODE="),
        ("mp:https://x", "/mp:"),
    ] {
        match line(text) {
            Err(SetupLineError::Misspelt { meant: found, .. }) => assert_eq!(found, meant, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn what_cannot_be_meant_is_refused_and_a_token_is_never_shown() {
    for (text, expected) in [
        ("SMSSITECODE=ABCD", SetupLineError::SiteCode),
        (&*format!("SMSSITECODE=AUTO CCMHOSTNAME={GATEWAY}"), SetupLineError::AutomaticSite),
        ("nonsense", SetupLineError::Stray("nonsense".into())),
        (TOKEN, SetupLineError::StrayToken),
        (&*format!("/regtoken:{TOKEN} /regtoken:other"), SetupLineError::TwoTokens),
    ] {
        let error = line(text).unwrap_err();
        assert_eq!(error, expected, "{text}");
        assert!(!error.to_string().contains("eyJ"), "{error}");
    }
    assert!(matches!(line("/uninstall"), Err(SetupLineError::NotForSetup { .. })));
    assert!(matches!(line(&format!("/mp:http://{GATEWAY}")), Err(SetupLineError::Address { .. })));
    assert!(matches!(line("CCMHOSTNAME=contoso.cloudapp.net"), Err(SetupLineError::Address { .. })));
    assert!(matches!(parse(&vec!["/x"; WORDS + 1]), Err(SetupLineError::TooLong)));
    let deep = "CCMSETUPCMD=CCMSETUPCMD=CCMSETUPCMD=CCMSETUPCMD=/mp:x";
    assert!(matches!(line(deep), Err(SetupLineError::TooDeep)));
}

#[test]
fn an_automatic_site_is_fine_inside() {
    assert!(line("SMSSITECODE=AUTO SMSMP=mp1").unwrap().site_code.is_none());
    assert!(parse::<&str>(&[]).unwrap().gateways.is_empty());
}

#[test]
fn nothing_that_is_pasted_makes_it_panic() {
    let pieces = [
        "/",
        "=",
        ":",
        "\"",
        "/mp",
        "/mp:",
        "SMSMP=",
        ";",
        "é",
        "\u{201C}",
        "CCMSETUPCMD=\"",
        "https://",
        "//",
        "\0",
    ];
    for a in pieces {
        for b in pieces {
            for c in pieces {
                let _ = parse(&[format!("{a}{b}{c}")]);
                let _ = parse(&[a, b, c]);
                let _ = parse(&[format!("ccmsetup.exe {a} {b}{c}")]);
            }
        }
    }
}
