//! Where detections go. Knows nothing of pipelines, cameras or doors.

pub mod datagram;
pub mod results;
pub mod udp;
