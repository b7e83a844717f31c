//! The facade: one name for everything strait offers.
