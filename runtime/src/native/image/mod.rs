//! Images: a content store of unpacked layers, aliases and fingerprints.
