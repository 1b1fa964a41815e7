//! What a workspace has before its first start, and taking it back: ids, slug, address, token, volume.
//!
//! Must never happen here: a container.

use fleet::id::{ContainerId, Generation, Slug, TemplateName, WorkspaceId};
use fleet::lifecycle::State;
use fleet::record::{LifecycleSettings, Showing, WorkspaceRecord};
use time::OffsetDateTime;

use super::launch::{Launcher, no_network};
use crate::error::Error;

/// Letters of an init token: 160 bits.
const TOKEN_LETTERS: usize = 32;

impl Launcher {
    /// Everything that a workspace has before its first start: ids, slug, address, token and a
    /// volume with the starter files. Not recorded yet.
    ///
    /// # Errors
    /// No such template, no address left, no space.
    pub(crate) async fn mint(&self, template: &TemplateName) -> Result<WorkspaceRecord, Error> {
        let template = self.template(template)?;
        let address = self.network.mint_address().await.map_err(no_network)?;
        let record = WorkspaceRecord {
            id: WorkspaceId::mint(),
            container: ContainerId::mint(),
            slug: Slug::mint(),
            template: template.name.clone(),
            address,
            generation: Generation(0),
            state: State::Stopped,
            claim: None,
            init_token: mint_token(),
            created_at: OffsetDateTime::now_utc(),
            started_at: None,
            woken: None,
            lifecycle: LifecycleSettings::default(),
            activity: None,
            showing: Showing::default(),
            deleted: false,
        };
        let made = self
            .volume(&record.id)
            .create(&template, Self::user())
            .await;
        if let Err(error) = made {
            self.discard_volume(&record).await;
            return Err(Error::from_io("the volume could not be made", error));
        }
        Ok(record)
    }

    /// Takes back what [`Launcher::mint`] made, record included; false if it has to be tried
    /// again. Its container must be gone.
    pub(crate) async fn discard_volume(&self, record: &WorkspaceRecord) -> bool {
        if let Err(error) = self.snapshots.remove_all(&record.id).await {
            tracing::error!(workspace = %record.id, %error, "its snapshots could not be removed");
            return false;
        }
        if let Err(error) = self.let_go(record.address).await {
            tracing::warn!(workspace = %record.id, %error, "its address is not free yet");
            return false;
        }
        match self.store.remove_workspace(&record.id).await {
            Ok(()) => {
                self.network.free_address(record.address);
                true
            }
            Err(error) => {
                tracing::error!(workspace = %record.id, %error, "a volume could not be removed");
                false
            }
        }
    }
}

/// 160 bits that user code of another container cannot guess.
pub(super) fn mint_token() -> String {
    use rand::Rng as _;
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut rng = rand::rng();
    (0..TOKEN_LETTERS)
        .map(|_| char::from(LETTERS[usize::from(rng.random::<u8>() & 31)]))
        .collect()
}
