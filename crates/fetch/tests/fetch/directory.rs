//! Users and computers of a real directory: OpenLDAP's slapd, started for each test without rights
//! on a free port. Skips, and says so, where it is missing.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fetch::directory::{DirectoryError, DirectorySource, Mark, Session};
use fetch::{Attributes, Config};
use ldap3::{LdapConnAsync, LdapConnSettings, Mod};
use runtime::Clock;
use secrecy::SecretString;
use site::{Directory, NewDirectory, SyncSource, SyncState};
use stand_in::Ca;
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::support::{Fetching, config, operator, wait_for};

const BASE: &str = "dc=example,dc=org";
const ADMIN: &str = "cn=admin,dc=example,dc=org";
const PASSWORD: &str = "a-good-password";

/// Where Debian and others have the server and its schemas.
fn server() -> Result<(PathBuf, PathBuf), String> {
    let programs =
        ["/usr/sbin/slapd", "/usr/lib/openldap/slapd", "/usr/libexec/slapd", "/usr/local/libexec/slapd"];
    let program = programs.iter().map(Path::new).find(|path| path.exists());
    let schemas = ["/etc/ldap/schema", "/etc/openldap/schema", "/usr/local/etc/openldap/schema"];
    let schema = schemas.iter().map(Path::new).find(|path| path.join("inetorgperson.schema").exists());
    match (program, schema) {
        (Some(program), Some(schema)) => Ok((program.to_owned(), schema.to_owned())),
        (None, _) => Err("slapd is not installed (Debian: slapd)".to_owned()),
        (_, None) => Err("slapd has no schemas where they are looked for".to_owned()),
    }
}

/// A running slapd; ends with the handle.
struct Slapd {
    process: Child,
    folder: TempDir,
    ldap: String,
    ldaps: String,
    ca: Ca,
}

impl Drop for Slapd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Slapd {
    /// Starts it with these users and computers.
    async fn start(people: u32, computers: u32) -> Result<Self, String> {
        let (program, schema) = server()?;
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::make("Test directory CA").unwrap();
        let path = |name: &str| folder.path().join(name);
        write_certificate(&ca, &path("server.pem"), &path("server.key"));
        std::fs::create_dir(path("db")).unwrap();
        std::fs::write(path("slapd.conf"), settings(&schema, folder.path())).unwrap();
        std::fs::write(path("data.ldif"), tree(people, computers)).unwrap();
        // A copy, because some systems tie rights to the program's path and would not let it read a
        // temporary folder. As `-T add` the same program fills the database.
        let (installed, program) = (program, path("slapd"));
        std::fs::copy(installed, &program).map_err(|error| error.to_string())?;
        let filled = Command::new(&program)
            .args(["-T", "add", "-f"])
            .arg(path("slapd.conf"))
            .arg("-l")
            .arg(path("data.ldif"))
            .output()
            .map_err(|error| error.to_string())?;
        if !filled.status.success() {
            return Err(format!(
                "slapd's database was not filled: {}",
                String::from_utf8_lossy(&filled.stderr)
            ));
        }
        let ports = [free_port(), free_port()];
        let (ldap, ldaps) =
            (format!("ldap://localhost:{}", ports[0]), format!("ldaps://localhost:{}", ports[1]));
        let log = std::fs::File::create(path("slapd.log")).unwrap();
        let process = Command::new(&program)
            .args(["-d", "0", "-h", &format!("{ldap} {ldaps}"), "-f"])
            .arg(path("slapd.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut slapd = Self { process, folder, ldap, ldaps, ca };
        slapd.wait_until_it_listens().await?;
        Ok(slapd)
    }

    async fn wait_until_it_listens(&mut self) -> Result<(), String> {
        let url = self.ldap.clone();
        let address = url.trim_start_matches("ldap://").to_owned();
        loop {
            if tokio::net::TcpStream::connect(&address).await.is_ok() {
                return Ok(());
            }
            if let Some(status) = self.process.try_wait().unwrap() {
                let log = std::fs::read_to_string(self.folder.path().join("slapd.log")).unwrap_or_default();
                return Err(format!("slapd ended ({status}): {log}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn source(&self) -> DirectorySource {
        DirectorySource {
            url: self.ldaps.clone(),
            base: BASE.to_owned(),
            filter: String::new(),
            bind_dn: ADMIN.to_owned(),
            secret: Some(SecretString::from(PASSWORD.to_owned())),
            ca_pem: Some(self.ca.certificate.clone()),
            start_tls: false,
            attributes: attributes(),
        }
    }

    fn directory(&self) -> NewDirectory {
        NewDirectory {
            name: "example.org".to_owned(),
            url: self.ldaps.clone(),
            base: BASE.to_owned(),
            filter: String::new(),
            bind_dn: ADMIN.to_owned(),
            secret: Some(Zeroizing::new(PASSWORD.to_owned())),
            ca_pem: Some(self.ca.certificate.clone()),
            start_tls: false,
        }
    }

    /// Changes an entry as an administrator of the directory does.
    async fn administer(&self) -> ldap3::Ldap {
        let (connection, mut ldap) =
            LdapConnAsync::with_settings(LdapConnSettings::new(), &self.ldap).await.unwrap();
        tokio::spawn(async move { drop(connection.drive().await) });
        ldap.simple_bind(ADMIN, PASSWORD).await.unwrap().success().unwrap();
        ldap
    }
}

/// This server has no attribute for a SID of its own, so another one serves.
fn attributes() -> Attributes {
    Attributes {
        sid: "employeeNumber".to_owned(),
        account: "uid".to_owned(),
        computers: "(objectClass=device)".to_owned(),
        ..Attributes::default()
    }
}

fn settings(schema: &Path, folder: &Path) -> String {
    let mut text = String::new();
    for name in ["core", "cosine", "inetorgperson"] {
        let _ = writeln!(text, "include {}", schema.join(name).with_extension("schema").display());
    }
    // Debian builds its database as a module; where it is built in, the line would fail.
    for modules in ["/usr/lib/ldap", "/usr/lib64/openldap", "/usr/lib/openldap"] {
        if Path::new(modules).join("back_mdb.la").exists() || Path::new(modules).join("back_mdb.so").exists()
        {
            let _ = writeln!(text, "modulepath {modules}\nmoduleload back_mdb");
            break;
        }
    }
    let folder = folder.display();
    let _ = write!(
        text,
        "pidfile {folder}/slapd.pid\nargsfile {folder}/slapd.args\n\
         TLSCertificateFile {folder}/server.pem\nTLSCertificateKeyFile {folder}/server.key\n\
         database mdb\nsuffix \"{BASE}\"\nrootdn \"{ADMIN}\"\nrootpw {PASSWORD}\n\
         directory {folder}/db\nmaxsize 104857600\n\
         index objectClass eq\nlimits * size.soft=500 size.hard=500 size.prtotal=unlimited\n\
         access to attrs=userPassword by anonymous auth by * none\naccess to * by users read by * none\n"
    );
    text
}

fn tree(people: u32, computers: u32) -> String {
    let mut text =
        format!("dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n\n");
    for unit in ["Staff", "Workstations"] {
        let _ = write!(text, "dn: ou={unit},{BASE}\nobjectClass: organizationalUnit\nou: {unit}\n\n");
    }
    // An account for searching, which is nobody's: it has no SID.
    let _ = write!(
        text,
        "dn: cn=reader,{BASE}\nobjectClass: person\ncn: reader\nsn: reader\nuserPassword: {PASSWORD}\n\
         modifyTimestamp: 20200101000000Z\n\n"
    );
    for number in 0..people {
        // All of one day but the first, whose change is the latest.
        let day = if number == 0 { 2 } else { 1 };
        let _ = write!(
            text,
            "dn: uid=user{number},ou=Staff,{BASE}\nobjectClass: inetOrgPerson\nuid: user{number}\n\
             cn: User {number}\nsn: {number}\ndisplayName: User {number}\nmail: user{number}@example.org\n\
             employeeNumber: S-1-5-21-1-2-3-{number}\nmodifyTimestamp: 2020010{day}000000Z\n\n"
        );
    }
    for number in 0..computers {
        let _ = write!(
            text,
            "dn: cn=PC{number},ou=Workstations,{BASE}\nobjectClass: device\ncn: PC{number}\n\
             modifyTimestamp: 20200101000000Z\n\n"
        );
    }
    text
}

fn write_certificate(ca: &Ca, certificate: &Path, key: &Path) {
    let issuer = rcgen::KeyPair::from_pem(&ca.key).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&ca.certificate, issuer).unwrap();
    let pair = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(certificate, params.signed_by(&pair, &issuer).unwrap().pem()).unwrap();
    std::fs::write(key, pair.serialize_pem()).unwrap();
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

macro_rules! slapd_or_skip {
    ($people:expr, $computers:expr) => {
        match Slapd::start($people, $computers).await {
            Ok(slapd) => slapd,
            Err(reason) => {
                assert!(server().is_err(), "slapd is there and does not serve: {reason}");
                println!("skipped: no real directory: {reason}");
                return;
            }
        }
    };
}

async fn names(session: &mut Session, since: Option<&Mark>) -> Result<Vec<String>, DirectoryError> {
    let mut names = Vec::new();
    let mut search = session.users(since).await?;
    while let Some(people) = search.next().await? {
        names.extend(people.into_iter().map(|person| person.account));
    }
    Ok(names)
}

/// A site that discovers this directory.
async fn discovering(slapd: &Slapd) -> (Fetching, Directory) {
    let fetching = Fetching::new().await;
    let directory = fetching.site.add_directory(&operator(), slapd.directory()).await.unwrap();
    let mut config: Config = config();
    config.attributes.insert("example.org".to_owned(), attributes());
    fetching.run_with(config);
    (fetching, directory)
}

async fn state(fetching: &Fetching, directory: &Directory) -> SyncState {
    let all = fetching.site.list_directories().await.unwrap();
    all.into_iter().find(|other| other.id == directory.id).unwrap().sync
}

async fn done(fetching: &Fetching, directory: &Directory) -> SyncState {
    let now = fetching.now();
    let done = async || {
        let state = state(fetching, directory).await;
        (state.full_at.max(state.delta_at) == Some(now) && state.running_since.is_none()).then_some(state)
    };
    wait_for("a finished discovery", done).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_finds_all_users_then_changes_and_in_the_end_deletions() {
    let slapd = slapd_or_skip!(1_203, 4);
    let (fetching, directory) = discovering(&slapd).await;
    let first = done(&fetching, &directory).await;
    assert_eq!((first.users, first.devices), (1_203, 4), "more than two pages of 500");
    let find = async |name: &str| {
        let user = fetching.site.find_user(name).await.unwrap();
        user.filter(|user| user.directory.is_some())
    };
    let user = find("user1202@example.org").await.unwrap();
    assert_eq!(user.sid.as_deref(), Some("S-1-5-21-1-2-3-1202"));
    assert_eq!((user.account.as_str(), user.domain.as_str()), ("user1202", "example.org"));
    let units = fetching.site.list_unsynced_units().await.unwrap();
    assert!(
        units.iter().all(|unit| unit.unit.starts_with("ou=Workstations") && unit.missing == 4),
        "{units:?}"
    );

    let mut ldap = slapd.administer().await;
    let dn = |number: u32| format!("uid=user{number},ou=Staff,{BASE}");
    let renamed = Mod::Replace("displayName", ["Ada"].into());
    ldap.modify(&dn(7), vec![renamed]).await.unwrap().success().unwrap();
    ldap.delete(&dn(8)).await.unwrap().success().unwrap();
    fetching.clock.advance(Duration::from_mins(10));
    fetching.site.want_sync(SyncSource::Directory(directory.id), false).await.unwrap();
    let delta = done(&fetching, &directory).await;
    assert_eq!(delta.delta_at, Some(fetching.now()));
    assert_eq!(find("user7@example.org").await.unwrap().display_name, "Ada");
    assert!(find("user8@example.org").await.is_some(), "a delta does not see what is gone");

    fetching.clock.advance(Duration::from_mins(10));
    fetching.site.want_sync(SyncSource::Directory(directory.id), true).await.unwrap();
    let full = done(&fetching, &directory).await;
    assert_eq!((full.full_at, full.users), (Some(fetching.now()), 1_202));
    assert!(find("user8@example.org").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_reads_only_what_changed() {
    let slapd = slapd_or_skip!(20, 1);
    let clock = Clock::system();
    let mut session = Session::open(slapd.source(), &clock).await.unwrap();
    assert_eq!(names(&mut session, None).await.unwrap().len(), 20);
    let mark = session.mark().unwrap();
    session.close().await;

    let mut ldap = slapd.administer().await;
    let renamed = Mod::Replace("displayName", ["Ada"].into());
    let dn = format!("uid=user7,ou=Staff,{BASE}");
    ldap.modify(&dn, vec![renamed]).await.unwrap().success().unwrap();
    let mut session = Session::open(slapd.source(), &clock).await.unwrap();
    // The mark lies a little before the latest change that was seen, so that one is read again.
    let mut changed = names(&mut session, Some(&mark)).await.unwrap();
    changed.sort();
    assert_eq!(changed, ["user0", "user7"]);
    let later = Mark::Time { from: clock.now_seconds() + 3_600 };
    assert_eq!(names(&mut session, Some(&later)).await.unwrap(), [""; 0], "nothing in an hour's time");
    let foreign = Mark::Usn { server: "CN=DC1".to_owned(), after: 7 };
    let refused = names(&mut session, Some(&foreign)).await;
    assert!(matches!(refused, Err(DirectoryError::Resync)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_must_prove_itself_and_a_password_goes_over_tls_only() {
    let slapd = slapd_or_skip!(2, 0);
    let clock = Clock::system();
    let open = async |change: &dyn Fn(&mut DirectorySource)| {
        let mut source = slapd.source();
        change(&mut source);
        Session::open(source, &clock).await
    };
    let by_start_tls = |source: &mut DirectorySource| {
        source.url.clone_from(&slapd.ldap);
        source.start_tls = true;
    };
    let mut session = open(&by_start_tls).await.unwrap();
    assert_eq!(names(&mut session, None).await.unwrap().len(), 2);

    let stranger = Ca::make("Another CA").unwrap().certificate;
    let foreign = open(&|source| source.ca_pem = Some(stranger.clone())).await;
    let told = format!("{}", runtime::telemetry::Chain(&foreign.unwrap_err()));
    assert!(told.contains("certificate"), "{told}");
    let clear = open(&|source| source.url.clone_from(&slapd.ldap)).await;
    assert!(matches!(clear, Err(DirectoryError::ClearPassword)), "{clear:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named() {
    let slapd = slapd_or_skip!(2, 0);
    let clock = Clock::system();
    let search = async |change: &dyn Fn(&mut DirectorySource)| {
        let mut source = slapd.source();
        change(&mut source);
        let mut session = Session::open(source, &clock).await?;
        names(&mut session, None).await
    };
    let wrong = search(&|source| source.secret = Some(SecretString::from("wrong".to_owned()))).await;
    let told = wrong.as_ref().unwrap_err().to_string();
    assert!(matches!(wrong, Err(DirectoryError::Password { .. })) && told.contains(ADMIN), "{told}");
    let nowhere = search(&|source| source.base = format!("ou=Nowhere,{BASE}")).await;
    assert!(matches!(nowhere, Err(DirectoryError::NoBase { .. })), "{nowhere:?}");
    let filter = search(&|source| source.filter = "(uid=*".to_owned()).await;
    assert!(matches!(filter, Err(DirectoryError::Filter { .. })), "{filter:?}");
    let one = search(&|source| source.filter = "(uid=user1)".to_owned()).await;
    assert_eq!(one.unwrap(), ["user1"]);
    let elsewhere = search(&|source| source.base = "dc=elsewhere,dc=org".to_owned()).await;
    assert!(elsewhere.is_err(), "{elsewhere:?}");
    let gone = search(&|source| source.url = format!("ldaps://localhost:{}", free_port())).await;
    assert!(matches!(gone, Err(DirectoryError::Unreachable(_))), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_stands_in_the_sites_record() {
    let slapd = slapd_or_skip!(2, 0);
    let fetching = Fetching::new().await;
    let mut wrong = slapd.directory();
    wrong.secret = Some(Zeroizing::new("wrong-and-secret".to_owned()));
    let directory = fetching.site.add_directory(&operator(), wrong).await.unwrap();
    fetching.run();
    let problem = wait_for("the problem", async || state(&fetching, &directory).await.problem).await;
    assert!(problem.contains("does not accept name and password"), "{problem}");
    assert!(!problem.contains("wrong-and-secret"), "{problem}");
}
