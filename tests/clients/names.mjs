// Changes only name resolution: the vendor's hosts are this machine, and their port 443 is NAMES_PORT, as a hosts file
// would do for a service on port 443. Loaded before a program by `node --import ./names.mjs`.
import dns from "node:dns";
import { syncBuiltinESMExports } from "node:module";
import tls from "node:tls";

const VENDOR = /(^|\.)(fal\.run|falrun\.com|fal\.ai|fal\.media)$/;
const { lookup } = dns;
const { connect } = tls;

// Some clients look at the address that a name has.
dns.lookup = (host, ...rest) => lookup(VENDOR.test(host) ? "127.0.0.1" : host, ...rest);
tls.connect = (options, ...rest) =>
  VENDOR.test(options.host) && Number(options.port) === 443
    ? connect({ ...options, port: Number(process.env.NAMES_PORT) }, ...rest)
    : connect(options, ...rest);
syncBuiltinESMExports();
