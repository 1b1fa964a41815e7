//! Who may see a workspace: everybody who knows its address, or whoever came by a share link.
//!
//! Must never happen here: a token. Only the record of a link; tokens are the API's to sign.

use fleet::id::LinkId;
use fleet::record::{ShareLink, Showing, Visibility};
use time::OffsetDateTime;
use tokio::sync::oneshot;

use super::Workspace;
use crate::driver::{Amendment, Order};
use crate::error::{Error, ErrorKind};

/// Share links of one workspace.
const LINKS_MAX: usize = 100;

impl Workspace {
    /// Who may see it.
    pub fn visibility(&self) -> Visibility {
        self.handle.showing().visibility
    }

    /// In force when this returns, for requests that come from then on.
    ///
    /// # Errors
    /// `NoSpace`, `Internal` when it could not be recorded; `NotReady`.
    pub async fn set_visibility(&self, visibility: Visibility) -> Result<(), Error> {
        self.amend(move |showing| {
            showing.visibility = visibility;
            Ok(())
        })
        .await
    }

    /// Links that neither ended nor were revoked, oldest first.
    pub fn share_links(&self) -> Vec<ShareLink> {
        let now = OffsetDateTime::now_utc();
        let showing = self.handle.showing();
        let links = showing.links.iter();
        links
            .filter(|link| link.expires_at > now)
            .cloned()
            .collect()
    }

    /// Lets whoever has its token in.
    ///
    /// # Errors
    /// `TooMany` beyond 100 links; as [`Workspace::set_visibility`].
    pub async fn share(&self, link: ShareLink) -> Result<(), Error> {
        self.amend(move |showing| {
            let now = OffsetDateTime::now_utc();
            showing.links.retain(|known| known.expires_at > now);
            if showing.links.len() >= LINKS_MAX {
                let message = format!("at most {LINKS_MAX} share links; revoke one first");
                return Err(Error::new(ErrorKind::TooMany, message));
            }
            showing.links.push(link);
            Ok(())
        })
        .await
    }

    /// Ends a link, and what was let in by it, for requests that come from then on.
    ///
    /// # Errors
    /// `NotFound`; as [`Workspace::set_visibility`].
    pub async fn unshare(&self, id: &LinkId) -> Result<(), Error> {
        let wanted = id.clone();
        self.amend(move |showing| {
            let before = showing.links.len();
            showing.links.retain(|known| known.id != wanted);
            if showing.links.len() == before {
                return Err(Error::new(ErrorKind::NotFound, "no such share link"));
            }
            Ok(())
        })
        .await
    }

    /// Changes what it shows, by its driver. The change goes on if the caller goes away.
    pub(super) async fn amend<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Showing) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (tell, told) = oneshot::channel();
        let amendment: Amendment = Box::new(move |showing| {
            // Nobody waiting any more is fine.
            let _ = tell.send(change(showing)?);
            Ok(())
        });
        let order = |done| Order::Amend(amendment, done);
        self.handle.order(order).await?;
        told.await
            .map_err(|error| Error::caused(ErrorKind::Internal, "nothing was changed", error))
    }
}
