use super::*;

#[test]
fn packets_of_every_size_are_found() {
    for (stride, before) in [(188, 0), (192, 4), (204, 0), (188, 77)] {
        let mut head = vec![0; before];
        while head.len() < 4096 {
            head.push(SYNC);
            head.resize(head.len() + stride - 1, 1);
        }
        assert_eq!(layout(&head[..4096]), Some((before, stride)));
    }
    assert_eq!(layout(&[0; 4096]), None);
    assert_eq!(layout(&[SYNC; 100]), None);
    assert_eq!(layout(&[]), None);
}

#[test]
fn headers_and_times_of_pes_packets() {
    let packet = [0, 0, 1, 0xe0, 0, 0, 0x80, 0x80, 5, 0x21, 0, 1, 0, 3, 9];
    assert_eq!(pes_data(&packet), Some(14));
    assert_eq!(pes_data(&packet[..12]), None);
    assert_eq!(presentation_time(&packet), Some(1));
    let latest = [0, 0, 1, 0xe0, 0, 0, 0x80, 0x80, 5, 0x2f, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(presentation_time(&latest), Some((1 << 33) - 1));
}
