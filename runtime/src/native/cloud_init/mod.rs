//! What cloud-init finds in a machine, by its NoCloud data source: a small disk with a few documents; and what it says
//! of its work. Pure.

mod documents;
mod image;
mod parts;
pub mod result;

pub use self::documents::{Documents, GuestFile, SharedFolder, documents};
pub use self::image::{ImageError, LABEL, image};
