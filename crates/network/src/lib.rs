//! How choices compose into a network.
