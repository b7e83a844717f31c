//! How the decision leaves.
