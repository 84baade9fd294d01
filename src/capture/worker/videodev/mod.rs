//! What the kernel's `linux/videodev2.h` says, and requests by it: cameras ([`super::v4l2`]) and decoders
//! ([`super::decode`]) are asked by the same ones.

pub(super) mod mapping;
pub(super) mod raw;
