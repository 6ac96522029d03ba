// The page of one image: the mask's switch, and keys for the neighbours.
const picture = document.getElementById("picture");
const maskOn = document.getElementById("mask-on");

function showMask() {
  picture.classList.toggle("mask-off", !maskOn.checked);
}

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input:not([type=checkbox]), select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " " && maskOn !== null && event.target !== maskOn) {
    event.preventDefault();
    maskOn.click();
  }
  if (event.key === "j") document.querySelector("a[rel=next]")?.click();
  if (event.key === "k") document.querySelector("a[rel=prev]")?.click();
});

if (maskOn !== null) {
  maskOn.addEventListener("input", showMask);
  showMask();
}
