//! What a workspace shows: changed by its driver, recorded, told to whoever serves visitors; and the
//! apps of its previews, started again with every container that is made anew.
//!
//! Must never happen here: a change that is told before it is recorded.

use fleet::id::Generation;
use fleet::record::{PreviewRecord, Showing};

use super::{Driver, Handle};
use crate::error::Error;

/// A change of what a workspace shows; an error leaves everything as it was.
pub(crate) type Amendment = Box<dyn FnOnce(&mut Showing) -> Result<(), Error> + Send>;

impl Driver {
    /// # Errors
    /// The amendment's; `NoSpace`, `Internal` when it could not be recorded. Nothing changed then.
    pub(super) async fn amend(&mut self, amendment: Amendment) -> Result<(), Error> {
        let mut changed = self.record.showing.clone();
        amendment(&mut changed)?;
        if changed == self.record.showing {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.record.showing, changed);
        if let Err(error) = self.save().await {
            self.record.showing = before;
            return Err(error);
        }
        let showing = &self.record.showing;
        self.handle.show(showing.clone());
        let id = self.handle.id();
        let private = showing.private();
        if private != before.private()
            && let Err(error) = self.engine.directory.set_private(id, private).await
        {
            tracing::error!(workspace = %id, %error, "the directory does not know who may see it");
            return Err(Error::caused(
                crate::error::ErrorKind::NotReady,
                "recorded, but not yet in force; try again",
                error,
            ));
        }
        Ok(())
    }

    /// Its container is new and empty: the apps that it shows are started again, behind the back
    /// of whoever waits for the container.
    pub(super) fn resume_previews(&self) {
        let generation = self.record.generation;
        let apps: Vec<PreviewRecord> = self.record.showing.active().cloned().collect();
        if apps.iter().all(|preview| preview.job.is_none()) {
            return;
        }
        let handle = self.handle.clone();
        self.engine.tasks.spawn(async move {
            for preview in &apps {
                resume(&handle, generation, preview).await;
            }
        });
    }
}

async fn resume(handle: &Handle, generation: Generation, preview: &PreviewRecord) {
    let Some(run) = crate::workspaces::app_of(preview) else {
        return;
    };
    let gate = handle.gate();
    let Some(gate) = gate.filter(|gate| gate.generation == generation) else {
        return;
    };
    match gate.init.start(&run).await {
        Ok(()) => tracing::info!(workspace = %handle.id(), preview = %preview.id, "started again"),
        Err(error) => {
            tracing::warn!(workspace = %handle.id(), preview = %preview.id, %error, "not started");
        }
    }
}
