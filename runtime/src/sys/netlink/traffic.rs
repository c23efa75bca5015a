//! Traffic control: one token bucket per direction.
//!
//! What leaves a link is shaped by `tbf` at its root. What arrives cannot be queued, so it is redirected to an `ifb`
//! whose root shapes it (`man 8 tc-tbf`, `drivers/net/ifb.c`); a policing action would drop instead, and not every
//! kernel has one. Source of the forms: `include/uapi/linux/pkt_sched.h`, `pkt_cls.h`, `tc_act/tc_mirred.h`.

use super::codec::{Message, attributes, text, u32_at};
use super::{CREATE_OR_REPLACE, Connection, NetlinkError};

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TC_H_ROOT: u32 = 0xFFFF_FFFF;
const TC_H_INGRESS: u32 = 0xFFFF_FFF1;
const INGRESS_HANDLE: u32 = 0xFFFF_0000;
const TBF_HANDLE: u32 = 0x1_0000;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
/// Tells the kernel that no table of transmission times is sent.
const TC_LINKLAYER_ETHERNET: u8 = 1;
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;
const TC_ACT_STOLEN: u32 = 4;
const TCA_EGRESS_REDIR: u32 = 1;
const ETH_P_ALL: u16 = 3;
/// Length of `struct tcmsg`.
const HEADER: usize = 20;
/// How long a packet may wait in the bucket, in milliseconds; what comes later is dropped.
const LATENCY: u64 = 50;

/// How the traffic of a link is shaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shaped {
    /// Number of the link.
    pub link: u32,
    /// Bits per second that may leave it.
    pub bits_per_second: u64,
}

fn header(link: u32, handle: u32, parent: u32, info: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[4..8].copy_from_slice(&link.to_ne_bytes());
    bytes[8..12].copy_from_slice(&handle.to_ne_bytes());
    bytes[12..16].copy_from_slice(&parent.to_ne_bytes());
    bytes[16..20].copy_from_slice(&info.to_ne_bytes());
    bytes
}

/// Bytes that may pass at once: a hundredth of a second of traffic, at least the largest segment that a veth hands
/// over unsplit (64 KiB with its headers), else tbf would drop every such segment.
fn burst(bytes_per_second: u64) -> u32 {
    u32::try_from((bytes_per_second / 100).max(68 * 1024)).unwrap_or(u32::MAX)
}

fn bucket(link: u32, bits_per_second: u64) -> Message {
    let rate = (bits_per_second / 8).max(1);
    let burst = burst(rate);
    let limit = u32::try_from(rate * LATENCY / 1000 + u64::from(burst)).unwrap_or(u32::MAX);
    // struct tc_tbf_qopt { struct tc_ratespec rate, peakrate; __u32 limit, buffer, mtu; }
    let mut parameters = [0; 36];
    parameters[1] = TC_LINKLAYER_ETHERNET;
    parameters[8..12].copy_from_slice(&u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes());
    parameters[24..28].copy_from_slice(&limit.to_ne_bytes());
    let mut message = Message::new(
        RTM_NEWQDISC,
        CREATE_OR_REPLACE,
        &header(link, TBF_HANDLE, TC_H_ROOT, 0),
        format!("shape link {link} to {bits_per_second} bits a second"),
    );
    message.put_text(TCA_KIND, "tbf");
    message.nest(TCA_OPTIONS, |m| {
        m.put(TCA_TBF_PARMS, &parameters);
        m.put_u32(TCA_TBF_BURST, burst);
        if rate > u64::from(u32::MAX) {
            m.put(TCA_TBF_RATE64, &rate.to_ne_bytes());
        }
    });
    message
}

impl Connection {
    /// Limits what leaves a link, from now on.
    ///
    /// # Errors
    /// There is no such link, or the kernel has no tbf.
    pub fn shape(&mut self, link: u32, bits_per_second: u64) -> Result<(), NetlinkError> {
        let mut request = bucket(link, bits_per_second);
        match self.perform(std::slice::from_mut(&mut request)) {
            // Another kind of queue with our handle is there: it is replaced as a whole.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                self.unshape(link)?;
                self.perform(&mut [request])
            }
            other => other,
        }
    }

    /// Takes the limit from a link; none there is fine.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn unshape(&mut self, link: u32) -> Result<(), NetlinkError> {
        self.delete_queue(link, 0, TC_H_ROOT)
    }

    /// Sends everything that arrives at a link through another one (an ifb) first.
    ///
    /// # Errors
    /// There is no such link, or the kernel has no u32 or mirred.
    pub fn redirect_arrivals(&mut self, link: u32, to: u32) -> Result<(), NetlinkError> {
        let doing = format!("redirect what arrives at link {link}");
        let mut queue = Message::new(
            RTM_NEWQDISC,
            CREATE_OR_REPLACE,
            &header(link, INGRESS_HANDLE, TC_H_INGRESS, 0),
            doing.as_str(),
        );
        queue.put_text(TCA_KIND, "ingress");
        let info = 1 << 16 | u32::from(ETH_P_ALL.to_be());
        let mut filter = Message::new(
            RTM_NEWTFILTER,
            CREATE_OR_REPLACE,
            // Handle 800::800 is the first rule of the first table of u32, so that a second call replaces it.
            &header(link, 0x8000_0800, INGRESS_HANDLE, info),
            doing,
        );
        filter.put_text(TCA_KIND, "u32");
        filter.nest(TCA_OPTIONS, |m| {
            // struct tc_u32_sel with one key that is true for every packet.
            let mut selector = [0; 32];
            selector[0] = 1;
            selector[2] = 1;
            m.put(TCA_U32_SEL, &selector);
            m.nest(TCA_U32_ACT, |m| {
                m.nest(1, |m| {
                    m.put_text(TCA_ACT_KIND, "mirred");
                    m.nest(TCA_ACT_OPTIONS, |m| {
                        // struct tc_mirred { tc_gen; int eaction; __u32 ifindex; }
                        let mut parameters = [0; 28];
                        parameters[8..12].copy_from_slice(&TC_ACT_STOLEN.to_ne_bytes());
                        parameters[20..24].copy_from_slice(&TCA_EGRESS_REDIR.to_ne_bytes());
                        parameters[24..28].copy_from_slice(&to.to_ne_bytes());
                        m.put(TCA_MIRRED_PARMS, &parameters);
                    });
                });
            });
        });
        // A redirection is rebuilt as a whole: u32 refuses to change one in place.
        self.stop_redirecting(link)?;
        self.perform(&mut [queue])?;
        self.perform(&mut [filter])
    }

    /// Ends a redirection; none there is fine.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn stop_redirecting(&mut self, link: u32) -> Result<(), NetlinkError> {
        self.delete_queue(link, INGRESS_HANDLE, TC_H_INGRESS)
    }

    fn delete_queue(&mut self, link: u32, handle: u32, parent: u32) -> Result<(), NetlinkError> {
        let doing = format!("remove the queue of link {link}");
        let request = Message::new(RTM_DELQDISC, 0, &header(link, handle, parent, 0), doing);
        match self.perform(&mut [request]) {
            // EINVAL: nothing but the default queue is there.
            Err(error) if error.is_missing() || error.raw_os_error() == Some(libc::EINVAL) => {
                Ok(())
            }
            other => other,
        }
    }

    /// All token buckets of the namespace.
    ///
    /// # Errors
    /// The kernel refused the list.
    pub fn shaped(&mut self) -> Result<Vec<Shaped>, NetlinkError> {
        let mut request = Message::new(RTM_GETQDISC, 0, &[0; HEADER], "list queues");
        self.dump(&mut request, |_, payload| {
            let mut bytes_per_second = None;
            let mut kind = String::new();
            for (attribute, value) in attributes(payload, HEADER) {
                match attribute {
                    TCA_KIND => kind = text(value),
                    TCA_OPTIONS if kind == "tbf" => {
                        for (attribute, value) in attributes(value, 0) {
                            match attribute {
                                TCA_TBF_PARMS if bytes_per_second.is_none() => {
                                    bytes_per_second = Some(u64::from(u32_at(value, 8)));
                                }
                                TCA_TBF_RATE64 => {
                                    bytes_per_second =
                                        value.try_into().ok().map(u64::from_ne_bytes);
                                }
                                _ => {}
                            }
                        }
                    }
                    _ => {}
                }
            }
            Some(Shaped {
                link: u32_at(payload, 4),
                bits_per_second: bytes_per_second? * 8,
            })
        })
    }

    /// Where arrivals of a link are redirected to.
    ///
    /// # Errors
    /// The kernel refused to look.
    pub fn redirected(&mut self, link: u32) -> Result<Option<u32>, NetlinkError> {
        let mut request = Message::new(
            RTM_GETTFILTER,
            0,
            &header(link, 0, INGRESS_HANDLE, 0),
            format!("list filters of link {link}"),
        );
        let found = self.dump(&mut request, |_, payload| {
            let find = |bytes, skip, wanted| {
                attributes(bytes, skip)
                    .find(|(kind, _)| *kind == wanted)
                    .map(|(_, value)| value)
            };
            let options = find(payload, HEADER, TCA_OPTIONS)?;
            let action = find(find(options, 0, TCA_U32_ACT)?, 0, 1)?;
            let parameters = find(find(action, 0, TCA_ACT_OPTIONS)?, 0, TCA_MIRRED_PARMS)?;
            Some(u32_at(parameters, 24))
        });
        match found {
            Ok(found) => Ok(found.first().copied()),
            // There is no ingress queue.
            Err(error) if error.is_missing() || error.raw_os_error() == Some(libc::EINVAL) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
