//! Bridges with DHCP, DNS and NAT; ports of instances.
