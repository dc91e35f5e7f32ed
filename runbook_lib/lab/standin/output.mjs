// How a command says what it found: one JSON document on stdout, reasons for people on stderr.
export function print(document) {
  console.log(JSON.stringify(document, null, 2));
}

export function fail(error, json) {
  if (json) print({ ok: false, error: { type: 'cli_error', message: error.message } });
  console.error(`[openclaw] The CLI command failed.\n[openclaw] Reason: ${error.message}`);
  return 1;
}
