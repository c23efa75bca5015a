//! `keel trash`.

use manifests::id::Address;
use manifests::kind::Kind;
use manifests::observed::Trashed;
use runtime::runtime::Runtime;

use super::HumanOrJson;
use super::asked::carry_out;
use super::decide::session;
use super::engine;
use super::global::address;
use super::invocation::Invocation;
use crate::error::{CliError, Exit};
use crate::session::{Asked, WhoseName};
use crate::view::text::{counted, visible};
use crate::view::trash;

/// Look at what was deleted and is kept for some days; take it out, or delete it for good.
#[derive(Debug, clap::Args)]
pub(super) struct Trash {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Debug, clap::Subcommand)]
enum Deed {
    /// List what is in it.
    List {
        /// How it is written.
        #[arg(short, long, value_name = "FORMAT", default_value = "human")]
        output: HumanOrJson,
    },
    /// Take the newest of a name out of it: stopped, under the same identity, for its old source.
    Restore {
        /// The objects.
        #[arg(required = true, value_name = "KIND/NAME", value_parser = address)]
        objects: Vec<Address>,
        /// Not the newest, but the one whose identity begins so.
        #[arg(long, value_name = "UID")]
        uid: Option<String>,
        /// Under another name: what has its own stays.
        #[arg(long, value_name = "NAME")]
        r#as: Option<String>,
        /// In the place of what has its name by now, which goes to the trash.
        #[arg(long, conflicts_with = "as")]
        instead: bool,
        /// How it is written.
        #[arg(short, long, value_name = "FORMAT", default_value = "human")]
        output: HumanOrJson,
    },
    /// Delete for good: all of it, what expired, or these.
    Empty {
        /// Only these objects.
        #[arg(value_name = "KIND/NAME", value_parser = address, conflicts_with = "expired")]
        objects: Vec<Address>,
        /// Of these only the one whose identity begins so.
        #[arg(long, value_name = "UID", requires = "objects")]
        uid: Option<String>,
        /// Only what was kept as long as it should be.
        #[arg(long)]
        expired: bool,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
        /// How it is written.
        #[arg(short, long, value_name = "FORMAT", default_value = "human")]
        output: HumanOrJson,
    },
}

/// Counts the data of what lies in the trash.
pub(super) fn measure(engine: &dyn Runtime, all: &mut [Trashed]) -> Result<(), CliError> {
    for one in all {
        let bytes = engine.measure(one.address.kind, &one.mark.uid)?;
        one.holds.bytes = bytes.unwrap_or(one.holds.bytes);
    }
    Ok(())
}

impl Trash {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let opened = engine::open(invocation)?;
        let session = session(invocation, &opened);
        match &self.deed {
            Deed::List { output } => {
                let seen = opened.runtime.observe()?;
                let mut all = seen.trash;
                measure(opened.runtime.as_ref(), &mut all)?;
                for pool in seen.unclear {
                    if pool.address.kind == Kind::StoragePool {
                        let (pool, why) = (pool.address, visible(&pool.why));
                        invocation.note(&format!(
                            "what the trash of {pool} holds cannot be told: {why}\n"
                        ));
                    }
                }
                all.sort_by(|a, b| (&a.address, a.deleted_at).cmp(&(&b.address, b.deleted_at)));
                let json = || format!("{:#}\n", trash::document(&all));
                invocation.json_into(json)?;
                match output {
                    HumanOrJson::Json => invocation.print_plain(&json())?,
                    HumanOrJson::Human if all.is_empty() => invocation.note("nothing\n"),
                    HumanOrJson::Human => {
                        invocation.print(&trash::table(&all, invocation.now()))?;
                    }
                }
                Ok(Exit::Done)
            }
            Deed::Restore {
                objects,
                uid,
                r#as,
                instead,
                output,
            } => {
                let whose_name = match (r#as, instead) {
                    (Some(_), _) if objects.len() > 1 => {
                        return Err(CliError::usage("--as gives a name to one object"));
                    }
                    (Some(name), _) => WhoseName::Other(name.clone()),
                    (None, true) => WhoseName::Taken,
                    (None, false) => WhoseName::Free,
                };
                let uid = uid.clone();
                let plan = session.asked(objects, &Asked::Restore { uid, whose_name })?;
                let restored = !plan.plan.steps.is_empty();
                let exit = carry_out(invocation, &opened, plan, *output)?;
                if restored && exit == Exit::Done {
                    invocation.note(
                        "an object that no manifest declares goes again with the next apply of its \
                         source: write its manifest, or `keel forget` it\n",
                    );
                }
                Ok(exit)
            }
            Deed::Empty {
                objects,
                uid,
                expired,
                yes,
                output,
            } => {
                let plan = if objects.is_empty() {
                    session.empty_trash(!expired)?
                } else {
                    session.asked(objects, &Asked::Purge { uid: uid.clone() })?
                };
                let count = plan.plan.steps.len();
                if count == 0 && plan.refused.is_empty() {
                    invocation.note("nothing to delete\n");
                } else if count > 0 {
                    let what = counted(count, "object");
                    let question = format!("Delete {what} from the trash for good?");
                    invocation.confirm(*yes, &question)?;
                }
                carry_out(invocation, &opened, plan, *output)
            }
        }
    }
}
