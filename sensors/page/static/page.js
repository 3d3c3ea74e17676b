// What every page does: take files, follow the stream, try again. Without any of it the page can be read all the same.

import { showArrivals } from "./arrivals.js";
import { follow } from "./live.js";
import { keepFresh } from "./refresh.js";
import { retryInPlace } from "./retry.js";
import { openZones } from "./zones.js";

openZones();
showArrivals();
keepFresh();
retryInPlace();
follow();
