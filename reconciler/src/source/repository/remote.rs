//! A repository on a server: what of it is needed is fetched into a store of ours.
//!
//! One commit is fetched without its history. Where history is needed, to see whether a commit comes after the one in force,
//! commits alone are fetched into a store that is thrown away: were they kept beside whole ones, a server could not be told
//! what is here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::Oid;
use manifests::controller::{HttpsAccess, SshAccess, Wanted};

use super::choosing::{Choosing, Chosen, Offered};
use super::examined::Examined;
use super::https::Https;
use super::lineage::{Lineage, lineage};
use super::objects::Objects;
use super::protocol::{self, Request, Speaks};
use super::ssh::{Server, Ssh};
use super::store::Store;
use super::wire::Wire;
use crate::source::failure::SourceError;
use crate::source::followed::Ahead;
use crate::web::access::TokenPlace;

/// The most bytes of one pack.
const MOST_OF_PACK: u64 = 512 << 20;
/// Files that are larger than is read are not fetched, where the server can leave them out.
const FILES: &str = "blob:limit=16m";
/// Only commits are fetched, where the server can leave the rest out.
const COMMITS: &str = "tree:0";
/// How many commits of a history are fetched, until the one in force is among them.
const DEPTHS: [u32; 3] = [64, 2048, 65_536];
/// How many are fetched to be counted: nobody counts further.
const COUNTED: [u32; 2] = [64, 2048];

/// How a server is reached.
#[derive(Debug)]
pub(super) enum Way {
    /// By ssh.
    Ssh {
        /// The client.
        client: String,
        /// The server.
        server: Server,
        /// As the settings say.
        access: SshAccess,
    },
    /// By https.
    Https {
        /// As the settings say.
        access: HttpsAccess,
        /// Where the token is.
        token: Option<TokenPlace>,
    },
}

/// A repository on a server.
pub(super) struct Remote {
    url: String,
    way: Way,
    limit: Duration,
    store: Store,
    /// What is connected.
    open: Option<(Box<dyn Wire>, Speaks)>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = formatter.debug_struct("Remote");
        out.field("url", &self.url).field("way", &self.way);
        out.finish_non_exhaustive()
    }
}

impl Remote {
    /// A repository that is reached in some way, with its store in a folder.
    pub(super) fn new(url: String, way: Way, limit: Duration, store: PathBuf) -> Self {
        Self {
            url,
            way,
            limit,
            store: Store::at(store),
            open: None,
        }
    }

    /// Where its objects are here.
    pub(super) fn folder(&self) -> &Path {
        self.store.folder()
    }

    fn wire(&self) -> Result<Box<dyn Wire>, SourceError> {
        Ok(match &self.way {
            Way::Ssh {
                client,
                server,
                access,
            } => Box::new(Ssh::new(client, server, access, &self.url, self.limit)),
            Way::Https { access, token } => {
                Box::new(Https::new(access, token.as_ref(), &self.url, self.limit)?)
            }
        })
    }

    /// Chooses among its references.
    ///
    /// # Errors
    /// It cannot be reached, or does not have what is wanted.
    pub(super) fn choose(
        &mut self,
        mut choosing: Choosing<'_>,
        wanted: &str,
    ) -> Result<Chosen, SourceError> {
        self.offer(&mut choosing)?;
        let chosen = choosing.chosen();
        chosen.ok_or_else(|| SourceError::NoSuchReference {
            url: self.url.clone(),
            wanted: wanted.to_owned(),
        })
    }

    /// Offers its references.
    ///
    /// # Errors
    /// It cannot be reached.
    pub(super) fn offer(&mut self, offered: &mut dyn Offered) -> Result<(), SourceError> {
        let mut wire = self.wire()?;
        let speaks = protocol::choose(&mut *wire, &self.url, offered)?;
        self.open = Some((wire, speaks));
        Ok(())
    }

    /// Lets go of the server.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Throws the store away: something in it cannot be read.
    pub(super) fn forget(&self) {
        if let Err(error) = self.store.remove() {
            tracing::warn!(%error, "a store of a source stays");
        }
    }

    /// The objects with what was chosen among them.
    ///
    /// # Errors
    /// It cannot be fetched.
    pub(super) fn objects(&mut self, wanted: Oid) -> Result<Objects, SourceError> {
        let objects = self.store.objects(&self.url)?;
        if objects.has(wanted) && self.store.tips().contains(&wanted) {
            return Ok(objects);
        }
        // What is not here any more must be sent again.
        let have = self.store.tips();
        let have: Vec<Oid> = have.into_iter().filter(|id| objects.has(*id)).collect();
        drop(objects);
        if self.store.is_full() {
            // Aside: what is here stays until the new one is whole.
            let fresh = self.store.beside(".new");
            fresh.remove()?;
            self.fetch(&fresh, wanted, 1, FILES, &[])?;
            fresh.replace(&self.store)?;
        } else {
            self.fetch(&self.store.clone(), wanted, 1, FILES, &have)?;
        }
        let objects = self.store.objects(&self.url)?;
        if objects.has(wanted) {
            return Ok(objects);
        }
        // Perhaps for what it was told that is here.
        self.forget();
        Err(SourceError::Server {
            url: self.url.clone(),
            why: format!("it did not send {wanted}"),
        })
    }

    /// Fetches into a store, and remembers there what came.
    fn fetch(
        &mut self,
        store: &Store,
        want: Oid,
        depth: u32,
        leave_out: &str,
        have: &[Oid],
    ) -> Result<(), SourceError> {
        // A server of the old protocol takes one question.
        let is_reusable = matches!(&self.open, Some((_, Speaks::Two { .. })));
        let (mut wire, speaks) = match self.open.take() {
            Some(open) => open,
            None => {
                let mut wire = self.wire()?;
                let wanted = Wanted::Head;
                let mut nothing = Choosing::new(&wanted, None);
                let speaks = protocol::choose(&mut *wire, &self.url, &mut nothing)?;
                (wire, speaks)
            }
        };
        let shallow = store.shallow();
        let request = Request {
            want,
            depth,
            have,
            shallow: if have.is_empty() { &[] } else { &shallow },
            leave_out,
            most: MOST_OF_PACK,
        };
        let mut pack = store.take()?;
        let mut examined = Examined::new(&mut pack);
        let cut = protocol::fetch(&mut *wire, &self.url, &speaks, &request, &mut examined)?;
        pack.end()?;
        store.remember(want, &cut)?;
        if is_reusable {
            self.open = Some((wire, speaks));
        }
        Ok(())
    }

    /// What the history says of a commit and the one in force; where its objects do not tell, with those that do.
    ///
    /// # Errors
    /// It cannot be fetched.
    pub(super) fn lineage(
        &mut self,
        objects: &Objects,
        commit: Oid,
        last: Oid,
        is_whole: bool,
    ) -> Result<(Option<Objects>, Lineage), SourceError> {
        let is_enough = |found: &Lineage| match is_whole {
            true => !found.is_cut,
            false => found.descends || !found.is_cut,
        };
        let found = lineage(objects, commit, last)?;
        if is_enough(&found) {
            return Ok((None, found));
        }
        let history = self.store.beside(".history");
        for depth in DEPTHS {
            history.remove()?;
            self.fetch(&history, commit, depth, COMMITS, &[])?;
            let objects = history.objects(&self.url)?;
            let found = lineage(&objects, commit, last)?;
            if is_enough(&found) {
                return Ok((Some(objects), found));
            }
        }
        Err(SourceError::TooLarge {
            what: "the history since the commit in force".to_owned(),
            limit: format!("{} commits", DEPTHS[DEPTHS.len() - 1]),
        })
    }

    /// How far what was chosen is ahead of a commit. Where the server can leave out all but commits they are counted; none:
    /// what a tag leads to is not known without that.
    ///
    /// # Errors
    /// It cannot be fetched.
    pub(super) fn ahead(
        &mut self,
        chosen: &Chosen,
        kept: Oid,
    ) -> Result<Option<Ahead>, SourceError> {
        if chosen.object == kept {
            return Ok(Some(Ahead::of(kept, &Lineage::none())));
        }
        let can_filter = self
            .open
            .as_ref()
            .is_some_and(|(_, speaks)| speaks.can_filter());
        if !can_filter {
            let is_commit = !chosen.reference.starts_with("refs/tags/");
            return Ok(is_commit.then(|| Ahead {
                commit: chosen.object.to_string(),
                commits: None,
            }));
        }
        let history = self.store.beside(".history");
        let mut ahead = None;
        for depth in COUNTED {
            history.remove()?;
            self.fetch(&history, chosen.object, depth, COMMITS, &[])?;
            let objects = history.objects(&self.url)?;
            let (_, commit) = objects.peeled(chosen.object)?;
            let found = lineage(&objects, commit, kept)?;
            ahead = Some(Ahead::of(commit, &found));
            if !found.is_cut {
                break;
            }
        }
        Ok(ahead)
    }

    /// Removes what was fetched for one question.
    pub(super) fn tidy(&self) {
        if let Err(error) = self.store.beside(".history").remove() {
            tracing::warn!(%error, "commits that were fetched for one question stay");
        }
    }
}
