//! Storage pools and volumes behind one driver trait.
