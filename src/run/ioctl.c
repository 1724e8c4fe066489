/*
 * Which ioctls take a pointer, and to how many bytes. Requests made with the kernel's macros carry
 * the size; the older ones (terminals, sockets) are listed. A request that takes a plain number
 * must not be taken for a pointer, but doing so only pins a page more.
 */
#include "run/run.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

#define IOCTL_LEAST   64u
#define IFREQ_BYTES   40u
#define TERMIOS_BYTES 64u

u64 run_ioctl_size(u64 request)
{
	u32 cmd = (u32)request;
	u32 size = _IOC_SIZE(cmd);

	switch (cmd) {
	case TCGETS:
	case TCSETS:
	case TCSETSW:
	case TCSETSF:
	case TCGETA:
	case TCSETA:
	case TCSETAW:
	case TCSETAF:
	case TIOCGSERIAL:
	case TIOCSSERIAL:
		return 2 * TERMIOS_BYTES;
	case TIOCGWINSZ:
	case TIOCSWINSZ:
	case TIOCGPGRP:
	case TIOCSPGRP:
	case TIOCGSID:
	case TIOCOUTQ:
	case TIOCMGET:
	case TIOCMSET:
	case TIOCMBIS:
	case TIOCMBIC:
	case TIOCGETD:
	case TIOCSETD:
	case TIOCPKT:
	case TIOCGSOFTCAR:
	case TIOCSSOFTCAR:
	case TIOCSTI:
	case FIONREAD: /* also TIOCINQ, SIOCINQ */
	case FIONBIO:
	case FIOASYNC:
	case FIOSETOWN:
	case FIOGETOWN:
	case SIOCSPGRP:
	case SIOCGPGRP:
	case SIOCATMARK:
		return 8;
	default:
		break;
	}
	if ((cmd >> 8) == 0x89) /* SIOC*: interfaces, routes */
		return IFREQ_BYTES > IOCTL_LEAST ? IFREQ_BYTES : IOCTL_LEAST * 4;
	if (size)
		return size;
	return IOCTL_LEAST;
}
