//! Sources as the settings of the controller name them.

use std::time::Duration;

use manifests::controller::SourceSettings;

use super::directory::Directory;
use super::failure::SourceError;
use super::followed::Followed;
use super::repository::{Around, Git};

/// The source that settings name. It is not looked at yet.
///
/// # Errors
/// The settings name something that cannot be used.
pub fn open(
    settings: &SourceSettings,
    around: &Around<'_>,
) -> Result<Box<dyn Followed>, SourceError> {
    let name = settings.name.as_str();
    match (&settings.git, &settings.directory) {
        (Some(git), _) => Ok(Box::new(Git::new(name, git, around)?)),
        (None, Some(directory)) if directory.path.is_some() => {
            let path = directory.path.as_ref().map(AsRef::as_ref);
            let path: &std::path::Path = path.unwrap_or(std::path::Path::new("/"));
            let interval: Duration = directory.interval.as_std();
            Ok(Box::new(Directory::new(name, path, interval)))
        }
        _ => Err(SourceError::Settings {
            what: format!("follow {name}"),
            source: "it is neither a repository nor a directory".into(),
        }),
    }
}
