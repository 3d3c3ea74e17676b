// What every page does: take files, follow the stream, try again, dismiss. Without any of it the page can be read all the same.

import { showArrivals } from "./arrivals.js";
import { dismissInPlace } from "./dismiss.js";
import { follow } from "./live.js";
import { keepFresh } from "./refresh.js";
import { retryInPlace } from "./retry.js";
import { openZones } from "./zones.js";

openZones();
showArrivals();
keepFresh();
retryInPlace();
dismissInPlace();
follow();
