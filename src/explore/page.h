/*
 * page.h - the page that cli_html.c fills: text before and after its data, made at build time from
 * page/page.html, page.css and page.js by page/embed.py.
 *
 * Invariant: both end in a zero byte.
 * Locking: none; constants.
 */
#ifndef QUIRE_EXPLORE_PAGE_H
#define QUIRE_EXPLORE_PAGE_H

extern const char cli_page_before[];
extern const char cli_page_after[];

#endif
