//! Blocks: a header of a few bytes, then one frame, or several laced together (Matroska §"Block Structure").

use super::ebml::{number, signed};
use std::ops::Range;

/// What the beginning of a block says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockHeader {
    pub(super) track: u64,
    /// Ticks after the cluster's own time.
    pub(super) time: i16,
    /// Decoded and not shown. Only simple blocks say so.
    pub(super) is_invisible: bool,
    lacing: u8,
    /// Bytes of this header.
    bytes: usize,
}

/// Longest header of a block, bytes: a track number of eight, a time of two, and flags.
pub(super) const MAX_BLOCK_HEADER_BYTES: usize = 11;

/// Most frames in a block: their number is stored in a byte, less one.
const MAX_LACES: usize = 256;

/// Where in a block its frames lie, in their order.
pub(super) type Laces = heapless::Deque<Range<usize>, MAX_LACES>;

impl BlockHeader {
    /// Reads a block's header; `None`: the block is damaged.
    pub(super) fn parse(block: &[u8]) -> Option<BlockHeader> {
        let (track, bytes) = number(block)?;
        let time = i16::from_be_bytes(*block.get(bytes..)?.first_chunk()?);
        let flags = *block.get(bytes + 2)?;
        Some(BlockHeader {
            track: track?,
            time,
            is_invisible: flags & 8 != 0,
            lacing: flags >> 1 & 3,
            bytes: bytes + 3,
        })
    }

    /// Where in the block its frames lie. Of a damaged lace, what can be told.
    pub(super) fn frames(&self, block: &[u8]) -> Laces {
        let frames = if self.lacing == 0 { self.whole(block) } else { self.laced(block) };
        frames.unwrap_or_default()
    }

    fn whole(&self, block: &[u8]) -> Option<Laces> {
        let mut frames = Laces::new();
        frames.push_back(self.bytes..block.len()).ok()?;
        Some(frames)
    }

    fn laced(&self, block: &[u8]) -> Option<Laces> {
        const XIPH: u8 = 1;
        const FIXED: u8 = 2;
        // Stored less one: at most `MAX_LACES`.
        let count = usize::from(*block.get(self.bytes)?) + 1;
        let mut at = self.bytes + 1;
        let mut sizes = Vec::with_capacity(count);
        match self.lacing {
            XIPH => {
                for _ in 1..count {
                    let mut size = 0_usize;
                    loop {
                        let byte = *block.get(at)?;
                        at += 1;
                        size += usize::from(byte);
                        if byte != 255 {
                            break;
                        }
                    }
                    sizes.push(size);
                }
            }
            FIXED => sizes.resize(count - 1, (block.len() - at) / count),
            _ => {
                let mut size = 0_i64;
                for index in 1..count {
                    let (step, bytes) = if index == 1 {
                        let (first, bytes) = number(block.get(at..)?)?;
                        (i64::try_from(first?).ok()?, bytes)
                    } else {
                        signed(block.get(at..)?)?
                    };
                    at += bytes;
                    size = size.checked_add(step)?;
                    sizes.push(usize::try_from(size).ok()?);
                }
            }
        }
        let mut frames = Laces::new();
        for size in sizes {
            let end = at.checked_add(size).filter(|&end| end <= block.len())?;
            frames.push_back(at..end).ok()?;
            at = end;
        }
        // The last one's size follows from the block's.
        frames.push_back(at..block.len()).ok()?;
        Some(frames)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn frames(block: &[u8]) -> Vec<&[u8]> {
        let header = BlockHeader::parse(block).unwrap();
        header.frames(block).into_iter().map(|range| &block[range]).collect()
    }

    #[test]
    fn one_frame_and_three_laces() {
        let header = BlockHeader::parse(&[0x81, 0xff, 0xfe, 0x88, 7]).unwrap();
        assert_eq!((header.track, header.time, header.is_invisible), (1, -2, true));
        assert_eq!(frames(&[0x81, 0, 0, 0, 7, 8]), [&[7, 8]]);
        assert_eq!(frames(&[0x81, 0, 0, 2, 2, 1, 2, 7, 8, 8, 9]), [&[7][..], &[8, 8], &[9]]);
        assert_eq!(frames(&[0x81, 0, 0, 4, 1, 7, 7, 8, 8]), [&[7, 7], &[8, 8]]);
        assert_eq!(frames(&[0x81, 0, 0, 6, 2, 0x81, 0xc0, 7, 8, 8, 9]), [&[7][..], &[8, 8], &[9]]);
    }

    #[test]
    fn laces_that_claim_too_much_are_none() {
        for block in [
            &[0x81, 0, 0, 2, 1, 200, 7][..],
            &[0x81, 0, 0, 6, 1, 0x90, 7],
            &[0x81, 0, 0, 2],
            &[0x81, 0, 0, 4, 255],
        ] {
            let header = BlockHeader::parse(block).unwrap();
            assert!(header.frames(block).iter().all(|range| range.end <= block.len()));
        }
        assert_eq!(BlockHeader::parse(&[0x81, 0, 0]), None);
    }
}
