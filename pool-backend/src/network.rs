//! A container's network: a namespace, one routed point-to-point veth, and what may leave it.
//!
//! Must never happen here: a rule, link or namespace of another instance touched.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use fleet::id::InstanceId;

use crate::runtime::OciId;

/// Why a network could not be made or taken away.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Every address of the range is in use.
    #[error("no free container address")]
    Exhausted,
    /// The kernel refused.
    #[error("{action}: {reason}")]
    Refused {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        reason: String,
    },
}

/// All networks of one instance.
#[derive(Debug)]
pub struct Network {}

/// A prepared network namespace. Taken away again on drop, unless [`Netns::keep`] was called once
/// something runs in it.
#[derive(Debug)]
pub struct Netns {
    path: PathBuf,
}

impl Netns {
    /// For [`crate::runtime::ContainerSpec::netns`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From now on only [`Network::release`] takes it away.
    pub fn keep(self) {}
}

#[expect(unused_variables, clippy::todo)]
impl Network {
    /// Installs the instance's rules; `used` are the addresses that records name.
    ///
    /// # Errors
    /// [`NetworkError::Refused`].
    pub async fn open(
        instance: InstanceId,
        data_dir: &Path,
        used: Vec<Ipv4Addr>,
    ) -> Result<Self, NetworkError> {
        todo!()
    }

    /// The name servers that containers may ask.
    pub fn resolvers(&self) -> &[Ipv4Addr] {
        todo!()
    }

    /// An address for a new container; write it into its record. Taken until given back.
    ///
    /// # Errors
    /// [`NetworkError::Exhausted`].
    pub async fn mint_address(&self) -> Result<Ipv4Addr, NetworkError> {
        todo!()
    }

    /// Gives an address back, when neither container nor snapshot has it any more.
    pub fn free_address(&self, address: Ipv4Addr) {
        todo!()
    }

    /// A new network namespace for one generation of a container. Costs some milliseconds.
    ///
    /// # Errors
    /// [`NetworkError::Refused`]; nothing is left then.
    pub async fn prepare(&self, id: &OciId, address: Ipv4Addr) -> Result<Netns, NetworkError> {
        todo!()
    }

    /// Takes link and namespace away. Idempotent.
    ///
    /// # Errors
    /// [`NetworkError::Refused`].
    pub async fn release(&self, id: &OciId) -> Result<(), NetworkError> {
        todo!()
    }

    /// Whose namespaces exist: to compare with what runs.
    ///
    /// # Errors
    /// [`NetworkError::Refused`].
    pub async fn list(&self) -> Result<Vec<OciId>, NetworkError> {
        todo!()
    }

    /// Sets the host's end up or down (down: nothing goes in or out, connections stay).
    ///
    /// # Errors
    /// [`NetworkError::Refused`].
    pub async fn set_link(&self, id: &OciId, up: bool) -> Result<(), NetworkError> {
        todo!()
    }

    /// Takes away every namespace, link and rule of this instance.
    ///
    /// # Errors
    /// [`NetworkError::Refused`].
    pub async fn close(&self) -> Result<(), NetworkError> {
        todo!()
    }
}
