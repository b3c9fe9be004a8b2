//! What a device remembers, and where it keeps it.
//!
//! One folder, mode 0700; every file in it 0600 and replaced as a whole. Tokens stand in
//! `client.json` and the key in `key.der`: that protects them from other accounts of the
//! machine, not from its administrator and not from whoever takes the disk. What a tenant gave
//! (its tokens, the refresh tokens of users) is sealed with the device's key besides, so that the
//! state file alone gives nothing away at the tenant.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::id::{ClientId, SiteCode, Thumbprint};
use proto::pki::Revocations;
use proto::time::Timestamp;
use runtime::config::{private_dir, private_file};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::address::{GatewayAddress, InsideAddress};
use crate::credential::ProofSetup;
use crate::credential::preference::MethodState;
use crate::credential::state::CredentialState;
use crate::identity::KeyMaterial;
use crate::local_settings::{self, LocalSettings, LocalSettingsError};
use crate::location::Whereabouts;
use crate::place::PlaceState;
use crate::policy::PolicyState;
use crate::token::StoredToken;
use crate::trust::{Pin, RootOrigin};

/// Version of the state's form. A newer one is refused, never guessed at.
const VERSION: u32 = 1;

const STATE_FILE: &str = "client.json";
const KEY_FILE: &str = "key.der";
const CERTIFICATE_FILE: &str = "certificate.der";
const LOCK_FILE: &str = "lock";
const POLICY_FOLDER: &str = "policy";
/// Revocation lists of servers' issuers.
const REVOCATION_FOLDER: &str = "crl";
/// Most revocation lists that are kept.
const REVOCATION_LISTS: usize = 64;
/// Where a state folder holds its log files.
const LOG_FOLDER: &str = "logs";

/// Bytes of a certificate in the state file, as base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Der(pub Vec<u8>);

impl Serialize for Der {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Der {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// What setup was told, and what the device is called.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// The device's name.
    pub name: String,
    /// Names the hardware: `2:` and hex, as the wire writes it [observed].
    pub hardware_id: String,
    /// The site, when it was named.
    pub site_code: Option<SiteCode>,
    /// Management points inside, in the order of preference.
    pub inside: Vec<InsideAddress>,
    /// Gateways that were named.
    pub gateways: Vec<GatewayAddress>,
    /// Never try the inside.
    pub always_internet: bool,
    /// Further roots (PEM) that a gateway's certificate may lead to.
    pub ca: Option<String>,
    /// How the site's root is known.
    pub pin: Pin,
}

/// Whether the site lets the device have policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Approval {
    /// An operator has yet to approve it, or a rule held it.
    Held,
    /// Approved.
    Approved,
    /// Approved by Entra identity.
    ApprovedByEntra,
}

impl Approval {
    /// Whether policy may be asked for.
    pub const fn is_approved(self) -> bool {
        matches!(self, Self::Approved | Self::ApprovedByEntra)
    }

    /// The number on the wire and in the field's log line.
    pub const fn number(self) -> i32 {
        match self {
            Self::Held => -1,
            Self::Approved => 1,
            Self::ApprovedByEntra => 3,
        }
    }
}

/// What registration gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The id that the site chose.
    pub client_id: ClientId,
    /// Whether the device is approved, as last heard.
    pub approval: Approval,
    /// When it was registered.
    pub registered: Timestamp,
    /// When it was last confirmed.
    pub confirmed: Option<Timestamp>,
}

/// The site's certificates as far as the device holds them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteTrust {
    /// The site root, once known.
    pub root: Option<Der>,
    /// How it came to be trusted.
    pub origin: Option<RootOrigin>,
    /// The message certificate with what leads to the root, leaf first.
    pub message_chain: Vec<Der>,
}

/// When things were done last, and the last that went wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    /// The last answer that the site signed.
    pub answered: Option<Timestamp>,
    /// The last heartbeat that the site took.
    pub heartbeat: Option<Timestamp>,
    /// The applied settings that this heartbeat reported: their version, and a digest of the values.
    pub heartbeat_settings: Option<String>,
    /// The last policy request that was answered.
    pub policy: Option<Timestamp>,
    /// The last failure, in one line.
    pub failure: Option<Failure>,
}

/// A failure as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// When.
    pub at: Timestamp,
    /// What, with its causes.
    pub text: String,
    /// The HRESULT, as clients print it.
    pub hresult: String,
    /// The reason code, when one was given.
    pub reason: Option<String>,
    /// The request id, when one was given.
    pub request_id: Option<String>,
}

/// All that a device remembers but its key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    version: u32,
    /// What setup was told.
    pub setup: Setup,
    /// What registration gave.
    pub registration: Option<Registration>,
    /// The token that proves the device.
    pub self_prove: Option<StoredToken>,
    /// The CCM token for requests through a gateway.
    pub ccm: Option<StoredToken>,
    /// The site's certificates.
    pub trust: SiteTrust,
    /// Gateways that the site's location answer named.
    pub located_gateways: Vec<GatewayAddress>,
    /// Where the device is.
    pub whereabouts: Option<Whereabouts>,
    /// What was applied.
    pub policy: PolicyState,
    /// When things were done last.
    pub contact: Contact,
    /// What setup was told about ways to prove the device.
    #[serde(default)]
    pub proof: ProofSetup,
    /// The method in use, with its reasons; none before the first look.
    #[serde(default)]
    pub method: Option<MethodState>,
    /// What the device proves itself with.
    #[serde(default)]
    pub credentials: CredentialState,
    /// The self-prove token before the present one, until that one was used: the site may have lost it.
    #[serde(default)]
    pub self_prove_before: Option<StoredToken>,
    /// What it knows about ways to the site.
    #[serde(default)]
    pub place: PlaceState,
}

impl State {
    /// The state of a device that was just set up.
    pub fn new(setup: Setup) -> Self {
        Self {
            version: VERSION,
            setup,
            registration: None,
            self_prove: None,
            ccm: None,
            trust: SiteTrust::default(),
            located_gateways: Vec::new(),
            whereabouts: None,
            policy: PolicyState::default(),
            contact: Contact::default(),
            proof: ProofSetup::default(),
            method: None,
            credentials: CredentialState::default(),
            self_prove_before: None,
            place: PlaceState::default(),
        }
    }
}

/// Why the device's memory could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// No device was set up there.
    #[error("no device was set up in {}", .0.display())]
    NotSetUp(PathBuf),
    /// The folder is no place for secrets.
    #[error("the state folder cannot be used")]
    Folder(#[source] private_dir::PrivateDirError),
    /// A file could not be read or written.
    #[error("the device's state cannot be used")]
    File(#[source] private_file::PrivateFileError),
    /// The state file is damaged.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where reading stopped.
        source: serde_json::Error,
    },
    /// Written by a newer version of this program.
    #[error("the state has form {0}; this program knows form {VERSION}: use the newer program")]
    Newer(u32),
    /// Another process works with it now.
    #[error("another roamgate-client is working with {}", .0.display())]
    Busy(PathBuf),
    /// The operating system refused.
    #[error("{} cannot be {action}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was to be done.
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Keeps a device's memory. A device writes its whole state after each step that matters.
pub trait Store: Send + Sync {
    /// Replaces the state.
    fn save(&self, state: &State) -> Result<(), StateError>;
    /// Keeps a policy body under the hash of its bytes.
    fn save_policy_body(&self, hash: Thumbprint, body: &[u8]) -> Result<(), StateError>;
    /// The body with this hash, if it is kept.
    fn policy_body(&self, hash: Thumbprint) -> Option<Vec<u8>>;
    /// Drops all bodies but these.
    fn keep_policy_bodies(&self, hashes: &[Thumbprint]) -> Result<(), StateError>;
    /// Keeps an issuer's revocation list. A store that does not is asked for none.
    fn save_revocations(&self, _list: &Revocations) -> Result<(), StateError> {
        Ok(())
    }
    /// The lists that are kept.
    fn revocations(&self) -> Vec<Revocations> {
        Vec::new()
    }
    /// The settings that an administrator of the device may have written. A store without any has none.
    fn local_settings(&self) -> Result<LocalSettings, LocalSettingsError> {
        Ok(LocalSettings::default())
    }
    /// Writes them.
    fn save_local_settings(&self, _settings: &LocalSettings) -> Result<(), LocalSettingsError> {
        Ok(())
    }
}

/// Forgets everything with the process but policy bodies within it: for tests and load tools.
#[derive(Debug, Default)]
pub struct MemoryStore {
    bodies: Mutex<std::collections::BTreeMap<Thumbprint, Vec<u8>>>,
}

impl Store for MemoryStore {
    fn save(&self, _: &State) -> Result<(), StateError> {
        Ok(())
    }

    fn save_policy_body(&self, hash: Thumbprint, body: &[u8]) -> Result<(), StateError> {
        self.bodies.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(hash, body.to_vec());
        Ok(())
    }

    fn policy_body(&self, hash: Thumbprint) -> Option<Vec<u8>> {
        self.bodies.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&hash).cloned()
    }

    fn keep_policy_bodies(&self, hashes: &[Thumbprint]) -> Result<(), StateError> {
        let mut bodies = self.bodies.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        bodies.retain(|hash, _| hashes.contains(hash));
        Ok(())
    }
}

/// A state folder.
#[derive(Debug, Clone)]
pub struct StateFolder {
    path: PathBuf,
}

/// The right to work with a state folder, until dropped. The service holds it only while it
/// does something, so that `sync` and `status` find their turn.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateFolder {
    /// The folder at `path`, made with mode 0700 if it is missing.
    pub fn create(path: &Path) -> Result<Self, StateError> {
        private_dir::create(path).map_err(StateError::Folder)?;
        Ok(Self { path: path.to_owned() })
    }

    /// The folder of a device that was set up before.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        if !path.join(STATE_FILE).is_file() {
            return Err(StateError::NotSetUp(path.to_owned()));
        }
        Self::create(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the log files of this device go.
    pub fn logs(&self) -> PathBuf {
        self.path.join(LOG_FOLDER)
    }

    /// Whether a device was set up here before.
    pub fn is_set_up(&self) -> bool {
        self.path.join(STATE_FILE).is_file()
    }

    /// Takes the right to work with it, or says at once that another process has it.
    pub fn try_lock(&self) -> Result<StateLock, StateError> {
        let path = self.path.join(LOCK_FILE);
        let failed = |source| StateError::Io { path: path.clone(), action: "opened", source };
        let mut options = fs::OpenOptions::new();
        options.create(true).truncate(false).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(StateLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StateError::Busy(self.path.clone())),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Reads the state.
    pub fn load(&self) -> Result<State, StateError> {
        let path = self.path.join(STATE_FILE);
        if !path.is_file() {
            return Err(StateError::NotSetUp(self.path.clone()));
        }
        let bytes = private_file::read(&path).map_err(StateError::File)?;
        // The form's number first: a newer form need not parse as this one.
        let damaged = |source| StateError::Damaged { path: path.clone(), source };
        let Form { version } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if version > VERSION {
            return Err(StateError::Newer(version));
        }
        serde_json::from_slice(&bytes).map_err(damaged)
    }

    /// Reads key and certificate.
    pub fn load_key(&self) -> Result<KeyMaterial, StateError> {
        let read = |name| private_file::read(self.path.join(name)).map_err(StateError::File);
        Ok(KeyMaterial { pkcs8: Zeroizing::new(read(KEY_FILE)?), certificate: read(CERTIFICATE_FILE)? })
    }

    /// Whether a key is here already, from a setup that did not come to its end.
    pub fn has_key(&self) -> bool {
        self.path.join(KEY_FILE).is_file() && self.path.join(CERTIFICATE_FILE).is_file()
    }

    /// Keeps key and certificate. The certificate first: a key without one is made anew.
    pub fn save_key(&self, material: &KeyMaterial) -> Result<(), StateError> {
        let write =
            |name, bytes: &[u8]| private_file::write(self.path.join(name), bytes).map_err(StateError::File);
        write(CERTIFICATE_FILE, &material.certificate)?;
        write(KEY_FILE, &material.pkcs8)
    }

    /// Removes everything that the client ever wrote here, and the folder if nothing else is in it.
    pub fn remove(self, lock: StateLock) -> Result<(), StateError> {
        let failed = |path: PathBuf| move |source| StateError::Io { path, action: "removed", source };
        // The state first: whatever happens then, no device is set up here any more.
        for name in [STATE_FILE, KEY_FILE, CERTIFICATE_FILE, local_settings::FILE] {
            let path = self.path.join(name);
            missing_is_fine(fs::remove_file(&path)).map_err(failed(path))?;
        }
        for name in [POLICY_FOLDER, REVOCATION_FOLDER, LOG_FOLDER] {
            let path = self.path.join(name);
            missing_is_fine(fs::remove_dir_all(&path)).map_err(failed(path))?;
        }
        drop(lock);
        let path = self.path.join(LOCK_FILE);
        missing_is_fine(fs::remove_file(&path)).map_err(failed(path))?;
        match fs::remove_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            other => missing_is_fine(other).map_err(failed(self.path)),
        }
    }

    fn body_path(&self, hash: Thumbprint) -> PathBuf {
        // Named by what is in it: no text from the network becomes a path (R28).
        self.path.join(POLICY_FOLDER).join(format!("{hash}.xml"))
    }
}

impl Store for StateFolder {
    fn save(&self, state: &State) -> Result<(), StateError> {
        let path = self.path.join(STATE_FILE);
        let bytes = serde_json::to_vec_pretty(state)
            .map_err(|source| StateError::Damaged { path: path.clone(), source })?;
        private_file::write(path, Zeroizing::new(bytes)).map_err(StateError::File)
    }

    fn save_policy_body(&self, hash: Thumbprint, body: &[u8]) -> Result<(), StateError> {
        private_dir::create(self.path.join(POLICY_FOLDER)).map_err(StateError::Folder)?;
        private_file::write(self.body_path(hash), body).map_err(StateError::File)
    }

    fn policy_body(&self, hash: Thumbprint) -> Option<Vec<u8>> {
        // A body that was changed on the disk is no body: it is fetched again.
        private_file::read(self.body_path(hash)).ok().filter(|body| Thumbprint::of(body) == hash)
    }

    fn keep_policy_bodies(&self, hashes: &[Thumbprint]) -> Result<(), StateError> {
        let folder = self.path.join(POLICY_FOLDER);
        let failed = |source| StateError::Io { path: folder.clone(), action: "tidied", source };
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(failed)?,
        };
        let kept: Vec<_> = hashes.iter().map(|hash| self.body_path(*hash)).collect();
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            if !kept.contains(&path) {
                missing_is_fine(fs::remove_file(&path)).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn save_revocations(&self, list: &Revocations) -> Result<(), StateError> {
        let folder = self.path.join(REVOCATION_FOLDER);
        private_dir::create(&folder).map_err(StateError::Folder)?;
        // Named by a digest: no text from the network becomes a path (R28).
        let path = folder.join(format!("{}.json", list.issuer));
        let bytes =
            serde_json::to_vec(list).map_err(|source| StateError::Damaged { path: path.clone(), source })?;
        private_file::write(path, bytes).map_err(StateError::File)
    }

    fn revocations(&self) -> Vec<Revocations> {
        self.read_revocations()
    }

    fn local_settings(&self) -> Result<LocalSettings, LocalSettingsError> {
        LocalSettings::read(&self.path)
    }

    fn save_local_settings(&self, settings: &LocalSettings) -> Result<(), LocalSettingsError> {
        settings.write(&self.path)
    }
}

impl StateFolder {
    fn read_revocations(&self) -> Vec<Revocations> {
        let Ok(entries) = fs::read_dir(self.path.join(REVOCATION_FOLDER)) else { return Vec::new() };
        let paths = entries.filter_map(Result::ok).map(|entry| entry.path()).take(REVOCATION_LISTS);
        // One that does not read is fetched again.
        paths
            .filter_map(|path| private_file::read(path).ok())
            .filter_map(|bytes| serde_json::from_slice(&bytes).ok())
            .collect()
    }
}

/// What every form of the state begins with.
#[derive(Deserialize)]
struct Form {
    version: u32,
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proto::token::TokenClass;

    pub(crate) fn setup() -> Setup {
        Setup {
            name: "pc1".into(),
            hardware_id: "2:00FF".into(),
            site_code: Some("RG1".parse().unwrap()),
            inside: vec!["mp1".parse().unwrap()],
            gateways: vec!["gw/CCM_Proxy_MutualAuth/7".parse().unwrap()],
            always_internet: false,
            ca: None,
            pin: Pin::FirstUse,
        }
    }

    #[test]
    fn a_state_comes_back_as_it_was_saved() {
        let folder = tempfile::tempdir().unwrap();
        let folder = StateFolder::create(&folder.path().join("state")).unwrap();
        assert!(matches!(folder.load(), Err(StateError::NotSetUp(_))));
        assert!(matches!(StateFolder::open(folder.path()), Err(StateError::NotSetUp(_))));
        let mut state = State::new(setup());
        let now = Timestamp::from_seconds(1_790_000_000);
        let token = crate::token::tests::text_of(TokenClass::SelfProve, now.seconds() + 1000);
        state.self_prove = Some(StoredToken::self_prove(token.clone(), now, 0).unwrap());
        state.trust.root = Some(Der(vec![1, 2, 3]));
        state.registration = Some(Registration {
            client_id: "GUID:3C283CD4-88D1-4D24-8AC7-8735BD09A9C3".parse().unwrap(),
            approval: Approval::Held,
            registered: now,
            confirmed: None,
        });
        folder.save(&state).unwrap();
        let back = StateFolder::open(folder.path()).unwrap().load().unwrap();
        assert_eq!(back.registration, state.registration);
        assert_eq!(back.self_prove.unwrap().text.expose(), token);
        assert_eq!((back.trust, back.setup.gateways), (state.trust, state.setup.gateways));
        let key = KeyMaterial { pkcs8: Zeroizing::new(vec![4]), certificate: vec![5] };
        assert!(!folder.has_key());
        folder.save_key(&key).unwrap();
        assert!(folder.has_key());
        assert_eq!(*folder.load_key().unwrap().pkcs8, [4]);
    }

    #[cfg(unix)]
    #[test]
    fn folder_and_files_are_for_their_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let folder = StateFolder::create(&parent.path().join("state")).unwrap();
        folder.save(&State::new(setup())).unwrap();
        folder.save_key(&KeyMaterial { pkcs8: Zeroizing::new(vec![4]), certificate: vec![5] }).unwrap();
        folder.save_policy_body(Thumbprint::of(b"x"), b"x").unwrap();
        let _lock = folder.try_lock().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(folder.path()), mode(&folder.path().join(POLICY_FOLDER))), (0o700, 0o700));
        for name in [STATE_FILE, KEY_FILE, CERTIFICATE_FILE, LOCK_FILE] {
            assert_eq!(mode(&folder.path().join(name)), 0o600, "{name}");
        }
        assert_eq!(mode(&folder.body_path(Thumbprint::of(b"x"))), 0o600);
        fs::set_permissions(folder.path().join(STATE_FILE), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(folder.load(), Err(StateError::File(_))), "an open state is refused");
    }

    #[test]
    fn only_one_process_works_with_a_folder_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let folder = StateFolder::create(parent.path()).unwrap();
        let lock = folder.try_lock().unwrap();
        assert!(matches!(folder.try_lock(), Err(StateError::Busy(_))));
        drop(lock);
        assert!(folder.try_lock().is_ok());
    }

    #[test]
    fn a_state_of_another_form_is_not_guessed_at() {
        let parent = tempfile::tempdir().unwrap();
        let folder = StateFolder::create(parent.path()).unwrap();
        private_file::write(parent.path().join(STATE_FILE), r#"{"version":2,"new":1}"#).unwrap();
        assert!(matches!(folder.load(), Err(StateError::Newer(2))));
        private_file::write(parent.path().join(STATE_FILE), r#"{"version":1}"#).unwrap();
        assert!(matches!(folder.load(), Err(StateError::Damaged { .. })));
    }

    #[test]
    fn policy_bodies_are_kept_by_content_and_tidied() {
        let parent = tempfile::tempdir().unwrap();
        let folder = StateFolder::create(parent.path()).unwrap();
        let (one, two) = (Thumbprint::of(b"one"), Thumbprint::of(b"two"));
        folder.keep_policy_bodies(&[]).unwrap();
        folder.save_policy_body(one, b"one").unwrap();
        folder.save_policy_body(two, b"changed").unwrap();
        assert_eq!(folder.policy_body(one).as_deref(), Some(&b"one"[..]));
        assert_eq!(folder.policy_body(two), None, "not what its name says");
        folder.keep_policy_bodies(&[two]).unwrap();
        assert_eq!(folder.policy_body(one), None);
    }

    #[test]
    fn removal_leaves_nothing_of_ours_and_everything_else() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("state");
        let folder = StateFolder::create(&path).unwrap();
        folder.save(&State::new(setup())).unwrap();
        folder.save_policy_body(Thumbprint::of(b"x"), b"x").unwrap();
        let lock = folder.try_lock().unwrap();
        folder.remove(lock).unwrap();
        assert!(!path.exists());

        let folder = StateFolder::create(&path).unwrap();
        fs::write(path.join("note.txt"), "mine").unwrap();
        folder.save(&State::new(setup())).unwrap();
        let lock = folder.try_lock().unwrap();
        folder.remove(lock).unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    }
}
