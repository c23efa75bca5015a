//! The guest in the words of its agent: addresses, system, frozen file systems, shutting down.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Agent, AgentError, Done};
use crate::native::machine::plain::{self, plain};

/// The most interfaces, and addresses of each, that are listened to.
const MOST: usize = 256;

/// A network interface of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestInterface {
    /// `enp1s0`; `Ethernet 2` in some guests.
    pub name: String,
    /// `aa:bb:cc:dd:ee:ff`, where it has one.
    pub hardware_address: Option<String>,
    /// With their prefixes.
    pub addresses: Vec<IpNet>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SentInterface {
    name: String,
    hardware_address: Option<String>,
    ip_addresses: Option<Vec<SentAddress>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SentAddress {
    ip_address: String,
    prefix: i64,
}

impl From<SentInterface> for GuestInterface {
    fn from(sent: SentInterface) -> Self {
        let addresses = sent.ip_addresses.unwrap_or_default();
        Self {
            name: plain(&sent.name),
            hardware_address: sent.hardware_address.and_then(|text| ethernet(&text)),
            addresses: addresses
                .iter()
                .filter_map(SentAddress::address)
                .take(MOST)
                .collect(),
        }
    }
}

impl SentAddress {
    /// `None`: it is no address.
    fn address(&self) -> Option<IpNet> {
        let address: IpAddr = self.ip_address.parse().ok()?;
        IpNet::new(address, u8::try_from(self.prefix).ok()?).ok()
    }
}

/// Six octets, in lower case.
fn ethernet(text: &str) -> Option<String> {
    let octets: Vec<&str> = text.split(':').collect();
    let is_octet =
        |octet: &&str| octet.len() == 2 && octet.bytes().all(|byte| byte.is_ascii_hexdigit());
    (octets.len() == 6 && octets.iter().all(is_octet)).then(|| text.to_ascii_lowercase())
}

/// What the guest says it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct OsInfo {
    /// `debian`.
    #[serde(deserialize_with = "plain::optional")]
    pub id: Option<String>,
    /// `Debian GNU/Linux 12 (bookworm)`.
    #[serde(deserialize_with = "plain::optional")]
    pub pretty_name: Option<String>,
    /// `12`.
    #[serde(deserialize_with = "plain::optional")]
    pub version_id: Option<String>,
    /// `6.1.0-18-cloud-amd64`.
    #[serde(deserialize_with = "plain::optional")]
    pub kernel_release: Option<String>,
    /// `x86_64`.
    #[serde(deserialize_with = "plain::optional")]
    pub machine: Option<String>,
}

/// Whether the guest holds back what it writes to its file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FreezeStatus {
    /// It does.
    Frozen,
    /// It does not.
    Thawed,
}

/// How a guest leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// And stays off.
    PowerDown,
    /// And comes back.
    Reboot,
}

impl Agent {
    /// The interfaces of the guest. Addresses that are none are left out.
    ///
    /// # Errors
    /// As [`AgentError`] says.
    pub fn interfaces(&mut self) -> Result<Vec<GuestInterface>, AgentError> {
        let sent: Vec<SentInterface> = self.ask("guest-network-get-interfaces", Value::Null)?;
        Ok(sent.into_iter().take(MOST).map(Into::into).collect())
    }

    /// What the guest says it is.
    ///
    /// # Errors
    /// As [`AgentError`] says.
    pub fn os_info(&mut self) -> Result<OsInfo, AgentError> {
        self.ask("guest-get-osinfo", Value::Null)
    }

    /// Writes out and freezes the guest's file systems, and answers how many. Until they thaw, the agent does little else.
    /// It may take long; whoever gives up waiting must still thaw them.
    ///
    /// # Errors
    /// As [`AgentError`] says.
    pub fn freeze(&mut self) -> Result<u64, AgentError> {
        self.ask("guest-fsfreeze-freeze", Value::Null)
    }

    /// Lets the guest write again, and answers how many file systems were frozen.
    ///
    /// # Errors
    /// As [`AgentError`] says.
    pub fn thaw(&mut self) -> Result<u64, AgentError> {
        self.ask("guest-fsfreeze-thaw", Value::Null)
    }

    /// Whether file systems are frozen.
    ///
    /// # Errors
    /// As [`AgentError`] says.
    pub fn freeze_status(&mut self) -> Result<FreezeStatus, AgentError> {
        self.ask("guest-fsfreeze-status", Value::Null)
    }

    /// Lets the guest shut down. An agent that does it says nothing, so silence is consent: whether the guest leaves is
    /// seen at its monitor.
    ///
    /// # Errors
    /// The agent refused, or was not there before that.
    pub fn shut_down(&mut self, how: Shutdown) -> Result<(), AgentError> {
        // Its silence counts only where it spoke a moment ago.
        self.ping()?;
        let mode = match how {
            Shutdown::PowerDown => "powerdown",
            Shutdown::Reboot => "reboot",
        };
        match self.ask("guest-shutdown", json!({"mode": mode})) {
            Ok(Done {}) | Err(AgentError::Silent { .. } | AgentError::Closed) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
