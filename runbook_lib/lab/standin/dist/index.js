// What the service runs; the command line is the same.
import '../openclaw.mjs';
