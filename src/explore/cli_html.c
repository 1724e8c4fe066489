/* cli_html.c - a trace as one page that needs nothing else. */
#include "explore/cli.h"

#include <errno.h>
#include <string.h>

int cli_html(const char *path, const struct cli_row *row)
{
	(void)row;
	return cli_error("--html '%s': %s", path, strerror(ENOSYS));
}
