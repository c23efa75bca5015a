//! [`Placement`]: where in a cluster an instance lives.

crate::fields! {
    /// Where in a cluster an instance lives: a hint when it is made, unless it is enforced.
    pub struct Placement {
        /// The member.
        member: Option<String> = None,
        /// The group of members.
        group: Option<String> = None,
        /// Whether it is moved when it is elsewhere.
        enforce: bool = false,
    }
}
