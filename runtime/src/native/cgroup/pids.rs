//! How many processes and threads: `pids.max`, the same on both generations.

use std::path::PathBuf;

use super::hierarchies::Controller;
use super::limits::{FileWrite, LimitPart, Seen};
use super::part::Part;
use super::snapshot::{View, ceiling, or_max};

pub(super) struct Processes;

impl Part for Processes {
    type Meaning = Option<u64>;
    type Raw = Option<u64>;

    const PART: LimitPart = LimitPart::Processes;
    const CONTROLLER: Controller = Controller::Pids;

    fn files(view: &View<'_>) -> Vec<PathBuf> {
        vec![view.place.payload.join("pids.max")]
    }

    fn read(view: &View<'_>) -> Result<Option<u64>, String> {
        ceiling(view.needed("pids.max")?)
    }

    fn encode(_: &View<'_>, meaning: &Option<u64>, _: &Option<u64>) -> Result<Option<u64>, String> {
        Ok(*meaning)
    }

    fn decode(_: &View<'_>, raw: &Option<u64>) -> Seen<Option<u64>> {
        Seen::Known(*raw)
    }

    fn writes(view: &View<'_>, from: &Option<u64>, to: &Option<u64>) -> Vec<FileWrite> {
        if from == to {
            return Vec::new();
        }
        vec![FileWrite::file(
            view.place.payload.join("pids.max"),
            or_max(*to),
        )]
    }
}
